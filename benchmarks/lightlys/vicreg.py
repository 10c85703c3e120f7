"""VICReg of lightly's head and loss, under our loop. arXiv:2105.04906"""

from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead

from tapetum import views
from tapetum.methods.method import Method


class LightlyVICReg(Method):
    def __init__(
        self,
        encoder,
        *,
        hidden: int = 8192,
        dim: int = 8192,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ):
        super().__init__(encoder)
        self.views = {"views": 2 * [views.byol(blur=0.5, solarise=0.1)]}
        self.head = VICRegProjectionHead(encoder.dim, hidden, dim, num_layers=3)
        self.criterion = VICRegLoss(lambda_param=invariance, mu_param=variance, nu_param=covariance)

    def loss(self, batch, t):
        return {"loss": self.criterion(*(self.head(self.encoder(x)).float() for x in batch["views"]))}
