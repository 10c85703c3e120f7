"""Each position says what a frozen teacher says there, not what it said of other images. arXiv:2211.00218"""

from torch.nn import functional as F

from tapetum import views
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Positive
from tapetum.encoders.encoder import Encoder
from tapetum.methods.method import Method
from tapetum.parts.dense import SelfAttention, SpatialAdaptor, columns, convs
from tapetum.parts.negatives import info_nce, unit
from tapetum.parts.state import Frozen, Queue


class PCD(Method):
    """The teacher is an encoder, whose own head, if it has one, is made to work at each position; the paper's
    also has the projector it was trained with.

    Args:
    images: number of training images, from the data.
    teacher: a run, a file or `timm:NAME`; without one, the encoder as it is before training.
    hidden: width of the projector's hidden layer.
    heads: of the attention between positions, which is thrown away after training.
    temperature: divides the cosine similarities.
    queue: how many images the teacher's mean is remembered of, at most all.
    """

    needs = "maps"

    def __init__(
        self,
        encoder,
        *,
        images: Count,
        teacher: Encoder | None = None,
        hidden: Count = 2048,
        heads: Count = 8,
        temperature: Positive = 0.2,
        queue: Count = 65536,
    ):
        super().__init__(encoder)
        teacher = teacher or encoder
        if not teacher.gives("maps"):
            raise TapetumError(f"the teacher {teacher.name} gives no feature maps, which PCD learns from.")
        if encoder.dim % heads:
            raise TapetumError(
                f"method.heads is {heads}; it must divide {encoder.name}'s width {encoder.dim}."
            )
        self.views = {"x": views.moco_v2()}
        self.teacher = Frozen(SpatialAdaptor(teacher))
        self.attention = SelfAttention(encoder.dim, heads)
        self.projector = convs(encoder.dim, hidden, teacher.dim)
        self.queue = Queue(min(queue, images), teacher.dim)
        self.temperature = temperature

    def loss(self, batch, t):
        said = self.projector(self.attention(self.encoder.maps(batch["x"])))  # [B, D, H, W]
        target = F.adaptive_avg_pool2d(self.teacher(batch["x"]), said.shape[2:])
        said, target = columns(said), columns(target)  # [B, N, D]
        return {
            "loss": info_nce(said.flatten(0, 1), target.flatten(0, 1), self.queue.items, self.temperature),
            "keep": {"queue": unit(target.mean(1))},
        }

    def after_step(self, t, keep):
        self.queue.push(keep["queue"])
