"""Each position finds its most similar one in the other view among remembered ones. arXiv:2011.09157"""

import torch

from tapetum import views
from tapetum.base.settings import Count, Positive
from tapetum.methods.method import Method
from tapetum.parts.dense import Maps, TwoHeads, convs, most_similar
from tapetum.parts.heads import mlp
from tapetum.parts.masks import take
from tapetum.parts.negatives import info_nce, unit
from tapetum.parts.schedule import Ramp, ShareRamp
from tapetum.parts.state import EMA, Queue


class DenseCL(Method):
    """Args:
    images: number of training images, from the data.
    hidden: width of the projectors' hidden layer.
    dim: width of what they give.
    temperature: divides the cosine similarities.
    queue: how many images' vectors are remembered, at most all, as wholes and as means over positions.
    dense: share of the loss over positions; the rest is MoCo's. The code begins with 0: "0->0.5 until 0.01".
    momentum: how much of itself the teacher keeps at each step.
    """

    needs = "maps"

    def __init__(
        self,
        encoder,
        *,
        images: Count,
        hidden: Count = 2048,
        dim: Count = 128,
        temperature: Positive = 0.2,
        queue: Count = 65536,
        dense: ShareRamp = Ramp(0.5, 0.5),
        momentum: ShareRamp = Ramp(0.999, 0.999),
    ):
        super().__init__(encoder)
        self.views = {"views": 2 * [views.moco_v2()]}
        whole = mlp(encoder.dim, hidden, dim, norm=None)
        self.projector = TwoHeads(whole, convs(encoder.dim, hidden, dim, norm=None))
        self.teacher = EMA(Maps(encoder), self.projector)
        self.wholes, self.means = Queue(min(queue, images), dim), Queue(min(queue, images), dim)
        self.temperature, self.dense, self.momentum = temperature, dense, momentum

    def loss(self, batch, t):
        query, key = batch["views"]
        features, q, dense_q = self.projector(self.encoder.maps(query))  # [B, N, F], [B, D], [B, N, D]
        there, k, dense_k = self.teacher(key)
        positive = take(dense_k, most_similar(features, there)).flatten(0, 1)  # [B*N, D]
        whole = info_nce(q, k, self.wholes.items, self.temperature)
        dense = info_nce(dense_q.flatten(0, 1), positive, self.means.items, self.temperature)
        return {
            "loss": torch.lerp(whole, dense, self.dense(t)),
            "keep": {"wholes": unit(k), "means": unit(dense_k.mean(1))},
            "whole": whole,
            "dense": dense,
        }

    def after_step(self, t, keep):
        self.wholes.push(keep["wholes"])
        self.means.push(keep["means"])
        self.teacher.follow(self.momentum(t), self.encoder, self.projector)
