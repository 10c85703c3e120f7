"""Barlow Twins of lightly's head and loss, under our loop. arXiv:2103.03230"""

from lightly.loss import BarlowTwinsLoss
from lightly.models.modules import BarlowTwinsProjectionHead

from tapetum import views
from tapetum.methods.method import Method


class LightlyBarlowTwins(Method):
    def __init__(self, encoder, *, hidden: int = 8192, dim: int = 8192, redundancy: float = 0.005):
        super().__init__(encoder)
        self.views = {"views": views.byol_pair()}
        self.head = BarlowTwinsProjectionHead(encoder.dim, hidden, dim)
        self.criterion = BarlowTwinsLoss(lambda_param=redundancy)

    def loss(self, batch, t):
        return {"loss": self.criterion(*(self.head(self.encoder(x)).float() for x in batch["views"]))}
