"""Find one's image by the key of a slow copy, among a long queue of other images' keys. arXiv:2003.04297"""

from tapetum import views
from tapetum.base.settings import Count, Positive
from tapetum.methods.method import Method
from tapetum.parts.heads import mlp
from tapetum.parts.negatives import info_nce, unit
from tapetum.parts.schedule import ShareRamp, constant
from tapetum.parts.state import EMA, Queue


class MoCoV2(Method):
    """Batch norm takes in the whole batch of all processes, in the place of the paper's shuffling.

    Args:
    images: number of training images, from the data.
    hidden: width of the projector's hidden layer.
    dim: width of what the projector gives.
    queue: number of keys that are remembered, at most one for each image.
    temperature: divides the cosine similarities.
    momentum: how much of itself the slow copy keeps at each step.
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
    ):
        super().__init__(encoder)
        self.views = {"views": 2 * [views.moco_v2()]}
        self.projector = mlp(encoder.dim, hidden, dim, norm=None)
        self.teacher = EMA(encoder, self.projector)
        self.queue = Queue(min(queue, images), dim)
        self.temperature, self.momentum = temperature, momentum

    def loss(self, batch, t):
        query, key = batch["views"]
        q, k = self.projector(self.encoder(query)), unit(self.teacher(key))  # [B, D]
        loss = info_nce(q, k, self.queue.items, self.temperature, self.harder(batch, t))
        return {"loss": loss, "keep": {"keys": k}}

    def harder(self, batch, t):
        """What makes harder negatives out of the queue, or None."""

    def after_step(self, t, keep):
        self.queue.push(keep["keys"])
        self.teacher.follow(self.momentum(t), self.encoder, self.projector)
