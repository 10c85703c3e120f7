"""Whiten the features of a batch, which scatters them, and pull all views together. arXiv:2007.06346"""

from typing import Annotated

import torch

from tapetum import views
from tapetum.base.settings import Amount, Count
from tapetum.methods.method import Method
from tapetum.parts.decorrelation import w_mse
from tapetum.parts.heads import mlp


class WMSE(Method):
    """Args:
    positives: number of views of each image.
    hidden: width of the projector's hidden layer.
    dim: width of what it gives.
    part: images that are whitened together, in multiples of dim; at most the whole batch.
    rounds: how often each batch is parted anew at random.
    eps: share of the mean variance that is added to each feature's before its inverse is taken.
    """

    def __init__(
        self,
        encoder,
        *,
        positives: Annotated[int, 2] = 2,
        hidden: Count = 1024,
        dim: Count = 128,
        part: Count = 2,
        rounds: Count = 1,
        eps: Amount = 1e-4,
    ):
        super().__init__(encoder)
        colours = views.Jitter(0.4, 0.4, 0.4, 0.1) + views.Gray(0.1)
        view = views.Crop(scale=(0.2, 1.0)) + views.Flip() + colours
        self.views = {"views": positives * [view]}
        self.projector = mlp(encoder.dim, hidden, dim)
        self.size, self.rounds, self.eps = part * dim, rounds, eps

    def loss(self, batch, t):
        z = torch.stack([self.projector(self.encoder(x)) for x in batch["views"]], 1)  # [B, V, D]
        return {"loss": w_mse(z, batch.random("parts", (self.rounds,)), self.size, self.eps)}
