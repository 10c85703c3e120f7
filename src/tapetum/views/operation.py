"""What a view is: plain data that says which operations with which ranges; compose with `+`."""

from dataclasses import dataclass, fields
from typing import ClassVar

from torch import Tensor

from tapetum.base.errors import TapetumError

Range = tuple[float, float]
Parameters = dict[str, Tensor]  # what was drawn for each image: [B, ...] by name


class Operation:
    """One step of a view. Subclasses are frozen dataclasses: their fields are settings, their methods say

    1. `draw`: which parameters each image gets, from uniform random numbers;
    2. `place`: where pixels come from, for operations that move them; or
    3. `paint`: what happens to the pixels.

    Whoever has parameters from elsewhere (a test, a learnt policy) calls `place` and `paint` with them.
    """

    SLOTS: ClassVar[int] = 1  # random numbers that it uses for an image
    LEAVES: ClassVar[bool] = False  # whether pixels may come from outside the image, where it is mirrored
    FRAMES: ClassVar[bool] = False  # whether it chooses a part of the whole image; else the middle is taken
    TURNS: ClassVar[bool] = False  # whether it does more than stretch, mirror and move along the axes

    def __add__(self, other: "Operation | View") -> "View":
        return View((self,)) + other

    def __post_init__(self):
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.name == "p" and not 0 <= value <= 1:
                raise TapetumError(f"{type(self).__name__}'s p is {value}; a probability lies in [0, 1].")
            if isinstance(value, tuple) and not isinstance(self, View) and value[0] > value[1]:
                raise TapetumError(
                    f"{type(self).__name__}'s {field.name} is {value}; the lower end comes first."
                )

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """Parameters of each image.

        Args:
            u: [B, SLOTS] uniform in [0, 1), each image its own.
            size: [B, 2] height and width of the images before they were squashed into their canvas.
            side: of the canvas in pixels.
        """
        return {}

    def place(self, given: Parameters) -> Tensor | None:
        """The transforms [B, 3, 3] from the output's coordinates (x, y, 1) to the input's, both in [0, 1]
        with x before y; None where nothing moves."""
        return None

    def paint(self, x: Tensor, given: Parameters) -> Tensor:
        """Pixels [B, C, S, S] in [0, 1] -> the same, changed."""
        return x


@dataclass(frozen=True)
class View(Operation):
    """Operations one after the other: `Crop() + Flip() + Jitter()`."""

    steps: tuple[Operation, ...] = ()

    def __add__(self, other: "Operation | View") -> "View":
        return View(self.steps + (other.steps if isinstance(other, View) else (other,)))

    def size(self, image_size: int) -> int:
        """The side of this view's square output, in pixels, in a run whose images are `image_size` wide."""
        sizes = [size for step in self.steps if (size := getattr(step, "size", None)) is not None]
        return pixels(sizes[-1] if sizes else 1.0, image_size)


def pixels(size: float, image_size: int) -> int:
    """A size as pixels: ints above 1 are pixels, anything else a share of `image_size`."""
    return size if isinstance(size, int) and size > 1 else max(1, round(size * image_size))


def between(u: Tensor, low: float, high: float) -> Tensor:
    """Numbers in [0, 1) -> numbers in [low, high)."""
    return low + u * (high - low)


def where(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` for the images chosen [B], `old` for the others."""
    return new.where(chosen.view(-1, *[1] * (new.ndim - 1)), old)
