"""SimCLR of lightly's head and loss, to be compared with ours under the same loop. arXiv:2002.05709"""

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead

from tapetum import views
from tapetum.methods.method import Method


class LightlySimCLR(Method):
    def __init__(self, encoder, *, hidden: int = 2048, dim: int = 128, temperature: float = 0.1):
        super().__init__(encoder)
        self.views = {"views": 2 * [views.simclr()]}
        self.head = SimCLRProjectionHead(encoder.dim, hidden, dim)
        self.criterion = NTXentLoss(temperature=temperature)

    def loss(self, batch, t):
        a, b = self.head(self.encoder(torch.cat(batch["views"]))).float().chunk(2)
        return {"loss": self.criterion(a, b)}
