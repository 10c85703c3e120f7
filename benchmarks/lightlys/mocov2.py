"""MoCo v2 of lightly's head, loss, memory bank and momentum update, under our loop. arXiv:2003.04297"""

import copy

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum

from tapetum import views
from tapetum.methods.method import Method
from tapetum.parts.schedule import ShareRamp, constant


class LightlyMoCoV2(Method):
    def __init__(
        self,
        encoder,
        *,
        hidden: int = 2048,
        dim: int = 128,
        queue: int = 65536,
        temperature: float = 0.2,
        momentum: ShareRamp = constant(0.999),
    ):
        super().__init__(encoder)
        self.views = {"views": 2 * [views.moco_v2()]}
        self.projection = MoCoProjectionHead(encoder.dim, hidden, dim)
        self.slow = copy.deepcopy(torch.nn.ModuleList([encoder, self.projection]))
        deactivate_requires_grad(self.slow)
        self.criterion = NTXentLoss(temperature=temperature, memory_bank_size=(queue, dim))
        self.momentum = momentum

    def loss(self, batch, t):
        query, key = batch["views"]
        q = self.projection(self.encoder(query)).float()
        with torch.no_grad():
            k = self.slow[1](self.slow[0](key)).float()
        return {"loss": self.criterion(q, k)}

    def after_step(self, t, keep):
        update_momentum(self.encoder, self.slow[0], self.momentum(t))
        update_momentum(self.projection, self.slow[1], self.momentum(t))
