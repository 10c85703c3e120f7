"""Attract the nearest neighbour of the other view among the vectors of recent images. arXiv:2104.14548"""

from tapetum import views
from tapetum.base.settings import Count, Positive
from tapetum.methods.method import Method
from tapetum.parts.heads import mlp
from tapetum.parts.losses import across
from tapetum.parts.negatives import in_batch, nearest, unit
from tapetum.parts.state import Queue


class NNCLR(Method):
    """By the paper, predictions of other images alone repel; in lightly other neighbours do, too.

    Args:
    images: number of training images, from the data.
    hidden: width of the projector's hidden layers.
    predictor_hidden: width of the predictor's hidden layer.
    dim: width of what both give.
    queue: number of vectors among which neighbours are sought, at most one for each image.
    temperature: divides the cosine similarities.
    """

    def __init__(
        self,
        encoder,
        *,
        images: Count,
        hidden: Count = 2048,
        predictor_hidden: Count = 4096,
        dim: Count = 256,
        queue: Count = 98304,
        temperature: Positive = 0.1,
    ):
        super().__init__(encoder)
        self.views = {"views": 2 * [views.simclr()]}
        self.projector = mlp(encoder.dim, hidden, hidden, dim, last_norm=True)
        self.predictor = mlp(dim, predictor_hidden, dim)
        self.queue = Queue(min(queue, images), dim)
        self.temperature = temperature

    def loss(self, batch, t):
        z = [self.projector(self.encoder(x)) for x in batch["views"]]  # 2 x [B, D]
        said = [self.predictor(x) for x in z]
        neighbours = [nearest(x, self.queue.items) for x in z]
        loss = across(lambda p, n: in_batch(n, p, self.temperature), said, neighbours)
        return {"loss": loss, "keep": {"first": unit(z[0])}}

    def after_step(self, t, keep):
        self.queue.push(keep["first"])
