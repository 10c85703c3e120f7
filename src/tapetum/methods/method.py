"""What a method is: the views it wants, the loss it puts on them, and what it keeps."""

from collections.abc import Callable
from typing import Any, Literal, Self

from torch import Tensor, nn

from tapetum.encoders.encoder import Encoder
from tapetum.views import Batch

Over = Callable[[Callable[[Tensor], Tensor]], Tensor]


class Method(nn.Module):
    """Subclass this, one file a method. Its constructor's keywords are its settings, by the paper.

    Keywords named `classes`, `images`, `image_size` or `channels` are filled in from the data unless set. One
    annotated `Encoder | None` may be given as text (a run, a file, `timm:NAME`) and is loaded.

    A method that paints pixels may say so with `paint(batch)`: pictures by name, [B, C, S, S] in [0, 1] each,
    for the run's report; parts/painting.py makes them.

    Attributes:
        views: the augmented images wanted, as plain data: views in nested dicts and lists.
        needs: what the encoder must give: one "vector" an image, "tokens" of patches, or "maps".
        rates: [(pattern, schedule)]: parameters whose name the pattern finds learn at that share of the rate.
    """

    views: Any = {}
    needs: Literal["vector", "tokens", "maps"] = "vector"
    rates: tuple[tuple[str, Callable[[float], float]], ...] = ()

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def loss(self, batch: Batch, t: float) -> dict[str, Any]:
        """{"loss": one number, "keep": {name: tensor [n, ...]}, **numbers to log} at progress t in [0, 1].

        Writes nothing (normalisation statistics excepted): what must be remembered goes into "keep".
        """
        raise NotImplementedError

    def before_epoch(self, t: float, over: Over) -> None:
        """Called before the first step of every epoch; may change state. `over(f)` is what f gives for all
        training images [N, ...], in the order of their index: f takes whole images [B, C, S, S] in [0, 1],
        in eval mode and without gradient. A call in which memory runs out is repeated: count last."""

    def after_step(self, t: float, keep: dict[str, Tensor]) -> None:
        """Called once after each optimiser step; here all state changes. `keep` holds what the losses of all
        processes kept, joined along the first axis in image order."""

    def product(self) -> Encoder:
        """The network that is evaluated and exported."""
        return self.encoder

    def train(self, mode: bool = True) -> Self:
        """Parts of the encoder in which nothing learns stay in eval mode: their statistics are those of the
        weights that they came with."""
        super().train(mode)
        for part in self.encoder.modules():
            own = list(part.parameters())
            if own and not any(p.requires_grad for p in own):
                part.eval()
        return self

    def forward(self, batch: Batch, t: float) -> dict[str, Any]:
        return self.loss(batch, t)
