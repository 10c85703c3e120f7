"""Follow a slow copy, away from the directions in which features have lain so far. arXiv:2206.10698"""

import torch

from tapetum import views
from tapetum.base.settings import Amount, Count, Share
from tapetum.methods.method import Method
from tapetum.parts.decorrelation import along, second_moment
from tapetum.parts.heads import mlp
from tapetum.parts.losses import cosine_distance
from tapetum.parts.schedule import Ramp, ShareRamp
from tapetum.parts.state import EMA


class TiCo(Method):
    """Args:
    hidden: width of the projector's hidden layer.
    dim: width of what it gives.
    contrast: weight of the features' length along the covariance so far; 8 as in lightly.
    memory: how much of itself that covariance keeps at each step.
    momentum: how much of itself the teacher keeps at each step.
    """

    def __init__(
        self,
        encoder,
        *,
        hidden: Count = 4096,
        dim: Count = 256,
        contrast: Amount = 8.0,
        memory: Share = 0.9,
        momentum: ShareRamp = Ramp(0.99, 1.0),
    ):
        super().__init__(encoder)
        self.views = {"views": views.byol_pair()}
        self.projector = mlp(encoder.dim, hidden, dim)
        self.teacher = EMA(encoder, self.projector)
        self.register_buffer("covariance", torch.zeros(dim, dim))
        self.contrast, self.memory, self.momentum = contrast, memory, momentum

    def loss(self, batch, t):
        first, second = batch["views"]
        z = self.projector(self.encoder(first))  # [B, D]
        now = second_moment(z).to(self.covariance)
        attract = cosine_distance(z, self.teacher(second)) / 2
        contrast = along(z, self.covariance.lerp(now, 1 - self.memory))
        return {"loss": attract + self.contrast * contrast, "keep": {"covariance": now[None]}}

    def after_step(self, t, keep):
        self.covariance.lerp_(keep["covariance"].mean(0), 1 - self.memory)
        self.teacher.follow(self.momentum(t), self.encoder, self.projector)
