"""Every image aims at its own random point; a batch swaps points to shorten the ways. arXiv:1704.05310"""

import torch
from torch import nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base import random
from tapetum.base.distributed import gather, share
from tapetum.base.settings import Count
from tapetum.measure.clustering import assignment
from tapetum.methods.method import Method
from tapetum.parts.losses import cosine_distance


class NAT(Method):
    """Args:
    images: number of training images, from the data.
    dim: dimensions of the sphere on which the points lie.
    every: points are swapped in each so-many-th epoch, from the first on.
    """

    def __init__(self, encoder, *, images: Count, dim: Count = 2048, every: Count = 3):
        super().__init__(encoder)
        self.views = {"x": views.mae()}
        self.projector = nn.Linear(encoder.dim, dim)
        self.register_buffer("own", torch.arange(images))  # the number of each image's point
        self.register_buffer("epoch", torch.tensor(-1))
        self.dim, self.every = dim, every

    def points(self, numbers):
        """The fixed random points [B, D] of length 1 that have these numbers [B]."""
        return F.normalize(random.normal(numbers, (self.dim,)), dim=1)

    def before_epoch(self, t, over):
        self.epoch += 1

    def loss(self, batch, t):
        z = self.projector(self.encoder(batch["x"]))  # [B, D]
        own = self.own[batch["index"]]
        if self.epoch % self.every == 0:
            own = self.swapped(z.detach(), own)
        return {
            "loss": cosine_distance(z, self.points(own)) / 2,
            "keep": {"index": batch["index"], "own": own},
        }

    def swapped(self, z, own):
        """The batch's points [B] dealt anew, so that together they lie nearest to z [B, D]."""
        z, own = gather(F.normalize(z.double(), dim=1)), gather(own)
        near = z @ self.points(own).double().T  # cosines: all have length 1
        _, columns = assignment(near.cpu().numpy())
        return share(own[torch.from_numpy(columns).to(own.device)])

    def after_step(self, t, keep):
        self.own[keep["index"]] = keep["own"]
