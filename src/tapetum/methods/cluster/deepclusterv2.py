"""Name an image's k-means cluster among vectors remembered from the last epoch. arXiv:2006.09882"""

import torch
from torch.nn import functional as F

from tapetum import views
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Positive, Whole
from tapetum.measure.clustering import kmeans
from tapetum.methods.method import Method
from tapetum.parts.crops import encoded
from tapetum.parts.heads import mlp
from tapetum.parts.negatives import unit


class DeepClusterV2(Method):
    """Args:
    images: number of training images, from the data.
    small_crops: how many small crops each image gives besides the two large ones.
    hidden: width of the projector's hidden layer.
    dim: width of what the projector gives.
    prototypes: number of clusters.
    heads: how many clusterings there are; by turns they group the first large crops and the second.
    temperature: divides the cosine similarities with the clusters' centres.
    """

    def __init__(
        self,
        encoder,
        *,
        images: Count,
        small_crops: Whole = 6,
        hidden: Count = 2048,
        dim: Count = 128,
        prototypes: Count = 3000,
        heads: Count = 3,
        temperature: Positive = 0.1,
    ):
        super().__init__(encoder)
        if prototypes > images:
            raise TapetumError(f"method.prototypes is {prototypes}; {images} images make at most as many.")
        self.views = views.swav(small_crops)
        self.projector = mlp(encoder.dim, hidden, dim)
        self.register_buffer("memory", torch.zeros(images, 2, dim))
        self.register_buffer("centres", torch.zeros(heads, prototypes, dim))
        self.register_buffer("labels", torch.zeros(heads, images, dtype=torch.long))
        self.temperature = temperature

    def before_epoch(self, t, over):
        if t == 0:  # there is no last epoch: the whole images stand in for their crops
            self.memory.copy_(over(lambda x: unit(self.projector(self.encoder(x))))[:, None])
        for head, centres in enumerate(self.centres):
            found = kmeans(
                self.memory[:, head % 2], len(centres), seed=head, restarts=1, iterations=10, spherical=True
            )
            self.centres[head], self.labels[head], _ = found

    def loss(self, batch, t):
        seen = encoded(self.encoder, batch["large"], batch["small"])
        z = unit(self.projector(torch.cat(seen)))  # [V*B, D], the large crops first
        labels = self.labels[:, batch["index"]].repeat(1, len(z) // len(batch))  # [heads, V*B]
        scores = (F.linear(z, centres) / self.temperature for centres in self.centres)  # each [V*B, K]
        losses = [F.cross_entropy(score, label) for score, label in zip(scores, labels)]
        first = z[: 2 * len(batch)].unflatten(0, (2, -1))
        return {
            "loss": torch.stack(losses).mean(),
            "keep": {"index": batch["index"], "z": first.transpose(0, 1)},  # [B, 2, D]
        }

    def after_step(self, t, keep):
        self.memory[keep["index"]] = keep["z"].to(self.memory)
