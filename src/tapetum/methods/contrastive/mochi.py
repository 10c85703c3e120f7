"""MoCo v2 with harder negatives, mixed out of the hardest and of the query. arXiv:2010.01028"""

from functools import partial

from tapetum.base.settings import Count, Positive, Share, Whole
from tapetum.methods.contrastive.mocov2 import MoCoV2
from tapetum.parts.negatives import mixed_negatives
from tapetum.parts.schedule import ShareRamp, constant


class MoCHi(MoCoV2):
    """Args:
    images: number of training images, from the data.
    hidden: width of the projector's hidden layer.
    dim: width of what the projector gives.
    queue: number of keys that are remembered, at most one for each image.
    temperature: divides the cosine similarities.
    momentum: how much of itself the slow copy keeps at each step.
    hardest: number of a query's nearest keys in the queue that are mixed.
    pairs: number of mixtures of two of them, for each query.
    own: number of mixtures of one of them with the query itself.
    warmup: share of training before mixing begins (10 of 200 epochs).
    """

    def __init__(
        self,
        encoder,
        *,
        images: Count,
        hidden: Count = 2048,
        dim: Count = 128,
        queue: Count = 65536,
        temperature: Positive = 0.2,
        momentum: ShareRamp = constant(0.999),
        hardest: Count = 1024,
        pairs: Whole = 1024,
        own: Whole = 128,
        warmup: Share = 0.05,
    ):
        super().__init__(
            encoder,
            images=images,
            hidden=hidden,
            dim=dim,
            queue=queue,
            temperature=temperature,
            momentum=momentum,
        )
        self.hardest, self.pairs, self.own, self.warmup = hardest, pairs, own, warmup

    def harder(self, batch, t):
        if t < self.warmup:
            return None
        u = batch.random("mix", (3 * self.pairs + 2 * self.own,))
        counts = {"hardest": self.hardest, "pairs": self.pairs, "own": self.own}
        return partial(mixed_negatives, items=self.queue.items, u=u, **counts)
