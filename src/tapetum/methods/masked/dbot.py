"""Predict a frozen network of hidden patches; then freeze oneself, and begin anew. arXiv:2209.03917"""

import torch
from torch import nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base.settings import Count, Positive, Share
from tapetum.methods.method import Method
from tapetum.parts.losses import precise
from tapetum.parts.masks import split, take
from tapetum.parts.predictors import TokenPredictor
from tapetum.parts.state import EMA, Frozen
from tapetum.parts.targets import normed

WARMUP = 0.05  # share of a stage during which the fresh student's rate climbs


class DBOT(Method):
    """Args:
    stages: how often a fresh student learns; the first from the weights that it begins with itself.
    hidden: share of the patches that are hidden.
    width: width of the decoder.
    depth: number of the decoder's blocks.
    beta: the error up to which the loss is squared, beyond which it is absolute.
    """

    needs = "tokens"

    def __init__(
        self,
        encoder,
        *,
        stages: Count = 2,
        hidden: Share = 0.75,
        width: Count = 512,
        depth: Count = 8,
        beta: Positive = 2.0,
    ):
        super().__init__(encoder)
        encoder.pool_patches()
        self.views = {"x": views.mae()}
        self.decoder = TokenPredictor(encoder.dim, encoder.grid, width, depth, out=encoder.dim)
        self.teacher = EMA(encoder)  # follows at the end of a stage, and then all the way
        self.fresh = Frozen(nn.ModuleList([encoder, self.decoder]))
        self.register_buffer("stage", torch.zeros((), dtype=torch.long))
        self.rates = (("", lambda t: 1.0 if t * stages < 1 else min(1.0, t * stages % 1 / WARMUP)),)
        self.stages, self.hidden, self.beta = stages, hidden, beta

    def loss(self, batch, t):
        x = batch["x"]
        keep, hide = split(batch.random("mask", (self.encoder.grid**2,)), self.hidden)
        said = self.decoder(self.encoder.tokens(x, keep=keep), keep, hide)  # [B, M, D]
        with torch.no_grad():
            target = take(normed(self.teacher.chain[0].tokens(x)), hide)
        return {"loss": precise(F.smooth_l1_loss)(said, target, beta=self.beta)}

    def after_step(self, t, keep):
        if min(int(t * self.stages), self.stages - 1) > self.stage:
            self.stage += 1
            self.teacher.follow(0.0, self.encoder)
            self.fresh.restore(self.encoder, self.decoder)
