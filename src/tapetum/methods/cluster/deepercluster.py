"""Name an image's turn and cluster, then its part of that cluster; both found by k-means. arXiv:1905.01278"""

import torch
from torch import nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base.settings import Count
from tapetum.measure.clustering import kmeans, whitened
from tapetum.methods.method import Method


class DeeperCluster(Method):
    """Where classes begin anew, the optimiser keeps its averages of the old ones' gradients.

    Args:
    images: number of training images, from the data.
    clusters: number of large clusters; with the four turns of an image they make the super-classes.
    prototypes: number of small clusters in each super-class, at most one for ten of its images.
    dim: how many whitened principal directions of the features are clustered, at most as many as there are.
    every: images are clustered anew in each so-many-th epoch, from the first on.
    """

    def __init__(
        self,
        encoder,
        *,
        images: Count,
        clusters: Count = 4,
        prototypes: Count = 20000,
        dim: Count = 4096,
        every: Count = 3,
    ):
        super().__init__(encoder)
        self.views = {"x": views.mae()}
        self.coarse = nn.Linear(encoder.dim, 4 * clusters)
        self.fine = nn.Linear(encoder.dim, 4 * clusters * prototypes)
        self.register_buffer("labels", torch.zeros(images, 4, 2, dtype=torch.long))  # large, small
        self.register_buffer("epoch", torch.tensor(-1))
        self.clusters, self.prototypes, self.dim, self.every = clusters, prototypes, dim, every

    def before_epoch(self, t, over):
        if (self.epoch + 1) % self.every == 0:
            self.cluster(over)
        self.epoch += 1  # last: a call that fails comes again

    @torch.no_grad()
    def cluster(self, over):
        """Find the classes of all images anew."""
        x = over(lambda x: self.encoder(turned(x).flatten(0, 1)).unflatten(0, (-1, 4)))  # [N, 4, D]
        x = whitened(x.flatten(0, 1), self.dim)  # [4N, P]
        turn = torch.arange(4, device=x.device).repeat(len(x) // 4)
        large = 4 * kmeans(x, min(self.clusters, len(x)), restarts=1, iterations=10)[1] + turn
        small = torch.zeros_like(large)
        for rows in (torch.where(large == one)[0] for one in large.unique()):
            parts = min(self.prototypes, max(1, len(rows) // 10))
            small[rows] = kmeans(x[rows], parts, restarts=1, iterations=10)[1]
        self.labels.copy_(torch.stack([large, small], 1).view_as(self.labels))
        for p in (*self.coarse.parameters(), *self.fine.parameters()):
            p.zero_()  # new classes are learnt from nothing

    def loss(self, batch, t):
        at = torch.arange(len(batch), device=batch["index"].device)
        turn = (4 * batch.random("turn")).long()
        z = self.encoder(turned(batch["x"])[at, turn])  # [B, D]
        large, small = self.labels[batch["index"], turn].unbind(1)
        parts = self.fine(z).unflatten(1, (-1, self.prototypes))[at, large]  # [B, K]
        return {"loss": F.cross_entropy(self.coarse(z), large) + F.cross_entropy(parts, small)}


def turned(x):
    """Images [B, C, S, S] turned by 0, 1, 2 and 3 quarters: [B, 4, C, S, S]."""
    return torch.stack([x.rot90(quarter, (2, 3)) for quarter in range(4)], 1)
