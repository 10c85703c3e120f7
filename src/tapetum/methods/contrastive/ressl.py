"""Be as near to remembered images as a slow copy, which sees a weaker view, sharply says. arXiv:2107.09282"""

from tapetum import views
from tapetum.base.settings import Count, Positive
from tapetum.methods.method import Method
from tapetum.parts.heads import mlp
from tapetum.parts.negatives import same_relations, unit
from tapetum.parts.schedule import ShareRamp, constant
from tapetum.parts.state import EMA, Queue


class ReSSL(Method):
    """Batch norm takes in the whole batch of all processes, in the place of the paper's shuffling.

    Args:
    images: number of training images, from the data.
    hidden: width of the projector's hidden layer.
    dim: width of what the projector gives.
    queue: number of the slow copy's vectors that are remembered, at most one for each image.
    temperature: the student's.
    teacher_temperature: the slow copy's, lower and so sharper.
    momentum: how much of itself the slow copy keeps at each step.
    """

    def __init__(
        self,
        encoder,
        *,
        images: Count,
        hidden: Count = 4096,
        dim: Count = 512,
        queue: Count = 131072,
        temperature: Positive = 0.1,
        teacher_temperature: Positive = 0.04,
        momentum: ShareRamp = constant(0.999),
    ):
        super().__init__(encoder)
        weak = views.Crop(scale=(0.2, 1.0)) + views.Flip()
        self.views = {"weak": weak, "strong": views.moco_v2()}
        self.projector = mlp(encoder.dim, hidden, dim)
        self.teacher = EMA(encoder, self.projector)
        self.queue = Queue(min(queue, images), dim)
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.momentum = momentum

    def loss(self, batch, t):
        q, k = self.projector(self.encoder(batch["strong"])), unit(self.teacher(batch["weak"]))  # [B, D]
        loss = same_relations(q, k, self.queue.items, self.temperature, self.teacher_temperature)
        return {"loss": loss, "keep": {"keys": k}}

    def after_step(self, t, keep):
        self.queue.push(keep["keys"])
        self.teacher.follow(self.momentum(t), self.encoder, self.projector)
