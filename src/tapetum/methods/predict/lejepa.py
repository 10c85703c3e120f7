"""Views predict the mean of the large ones; embeddings are kept an isotropic Gaussian. arXiv:2511.08544"""

import torch

from tapetum import views
from tapetum.base import random
from tapetum.base.settings import Count, Share, Whole
from tapetum.methods.method import Method
from tapetum.parts.heads import mlp
from tapetum.parts.losses import squared_error
from tapetum.parts.sigreg import sigreg


class LeJEPA(Method):
    """No teacher, no stop-gradient, no schedule.

    Args:
        small_crops: how many small crops each image gives besides the two large ones.
        hidden: width of the projector's hidden layers.
        dim: width of the embeddings.
        directions: number of random directions, new at each step, along which they are tested.
        weight: the Gaussian's share of the loss (lambda); the prediction has the rest.
    """

    def __init__(
        self,
        encoder,
        *,
        small_crops: Whole = 8,
        hidden: Count = 2048,
        dim: Count = 128,
        directions: Count = 1024,
        weight: Share = 0.05,
    ):
        super().__init__(encoder)
        self.views = {
            "large": 2 * [views.byol(0.5, 0.2, scale=(0.3, 1.0))],
            "small": small_crops * [views.byol(0.5, 0.2, 0.43, (0.05, 0.3))],
        }
        self.projector = mlp(encoder.dim, hidden, hidden, dim)
        self.dim, self.directions, self.weight = dim, directions, weight

    def loss(self, batch, t):
        sizes = [torch.cat(crops) for crops in (batch["large"], batch["small"]) if crops]
        z = self.projector(torch.cat([self.encoder(x) for x in sizes])).unflatten(0, (-1, len(batch)))
        key = random.key(batch.random("directions", (2,), per="batch")[None])
        normality = sigreg(z, random.normal(key, (self.dim, self.directions))[0])
        prediction = squared_error(z, z[:2].mean(0).expand_as(z))  # [V, B, D]
        return {
            "loss": (1 - self.weight) * prediction + self.weight * normality,
            "prediction": prediction,
            "normality": normality,
        }
