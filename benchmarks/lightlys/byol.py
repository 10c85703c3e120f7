"""BYOL of lightly's heads, loss and momentum update, under our loop. arXiv:2006.07733"""

import copy

import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum

from tapetum import views
from tapetum.methods.method import Method
from tapetum.parts.schedule import Ramp, ShareRamp


class LightlyBYOL(Method):
    def __init__(
        self, encoder, *, hidden: int = 4096, dim: int = 256, momentum: ShareRamp = Ramp(0.996, 1.0)
    ):
        super().__init__(encoder)
        self.views = {"views": views.byol_pair()}
        self.projection = BYOLProjectionHead(encoder.dim, hidden, dim)
        self.prediction = BYOLPredictionHead(dim, hidden, dim)
        self.slow = copy.deepcopy(torch.nn.ModuleList([encoder, self.projection]))
        deactivate_requires_grad(self.slow)
        self.criterion = NegativeCosineSimilarity()
        self.momentum = momentum

    def loss(self, batch, t):
        said = [self.prediction(self.projection(self.encoder(x))).float() for x in batch["views"]]
        with torch.no_grad():
            target = [self.slow[1](self.slow[0](x)).float() for x in batch["views"]]
        return {"loss": (self.criterion(said[0], target[1]) + self.criterion(said[1], target[0])) / 2}

    def after_step(self, t, keep):
        update_momentum(self.encoder, self.slow[0], self.momentum(t))
        update_momentum(self.projection, self.slow[1], self.momentum(t))
