"""What a view is: plain data that says which operations with which ranges; compose with `+`."""

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

import torch
from torch import Tensor

from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Amount, Share, parse

Range = tuple[float, float]  # drawn evenly from [low, high); the others also keep both ends within limits
Shares = tuple[Share, Share]
Amounts = tuple[Amount, Amount]
Positives = tuple[Annotated[float, 0.01], Annotated[float, 0.01]]
Size = Annotated[int | float, 1e-6]  # ints above 1 are pixels, anything else a share of the run's image size
Fill = Literal["mirror", "edge", "zero", "gray"]  # what lies outside of an image
Parameters = dict[str, Tensor]  # what was drawn for each image: [B, ...] by name


class Operation:
    """One step of a view. Subclasses are frozen dataclasses: their fields are settings, their methods say

    1. `draw`: which parameters each image gets, from uniform random numbers;
    2. `place` and `bend`: where pixels come from, for operations that move them; or
    3. `paint`: what happens to the pixels.

    Whoever has parameters from elsewhere (a test, a learnt policy) calls `place`, `bend` and `paint` with
    them.
    """

    SLOTS: ClassVar[int] = 1  # random numbers that it uses for an image
    FRAMES: ClassVar[bool] = False  # whether it chooses a part of the whole image; else the middle is taken
    TURNS: ClassVar[bool] = False  # whether it does more than stretch, mirror and move along the axes

    def __add__(self, other: "Operation | View") -> "View":
        return View((self,)) + other

    def __post_init__(self):
        kind = type(self)
        for field in fields(self):  # type: ignore[arg-type]
            value, name = getattr(self, field.name), f"{kind.__name__}'s {field.name}"
            parse(name, value, hints(kind)[field.name])
            if field.name == "p" and not 0 <= value <= 1:
                raise TapetumError(f"{name} is {value}; a probability lies in [0, 1].")
            if is_range(value) and value[0] > value[1]:
                raise TapetumError(f"{name} is {value}; the lower end comes first.")

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

    def bend(self, given: Parameters, at: Tensor) -> Tensor | None:
        """By how much each pixel's place is moved, [B, 2, S, S] in shares of the view, x before y; None where
        nothing bends. `at` [2, S, S] are the pixels' places in the view."""
        return None

    def paint(self, x: Tensor, given: Parameters) -> Tensor:
        """Pixels [B, C, S, S] in [0, 1] -> the same, changed. Parameters may lie on the CPU."""
        return x

    def outside(self) -> Fill | None:
        """How to fill what lies outside of the image; None for operations that never reach there."""
        return getattr(self, "fill", None)

    def inner(self) -> tuple["Operation", ...]:
        """The operations that this one is made of."""
        return ()

    def made_of(self, inner: tuple["Operation", ...]) -> "Operation":
        """The same of other operations."""
        return self


@dataclass(frozen=True)
class View(Operation):
    """Operations one after the other: `Crop() + Flip() + Jitter()`."""

    steps: tuple[Operation, ...] = ()

    def __post_init__(self):
        fill_of(self.steps)

    def __add__(self, other: "Operation | View") -> "View":
        return View(self.steps + (other.steps if isinstance(other, View) else (other,)))

    def size(self, image_size: int) -> int:
        """The side of this view's square output, in pixels, in a run whose images are `image_size` wide."""
        sizes = [size for step in self.steps if (size := getattr(step, "size", None)) is not None]
        return pixels(sizes[-1] if sizes else 1.0, image_size)

    def outside(self) -> Fill | None:
        return fill_of(self.steps)


class Chance(Operation):
    """An operation that is done to an image with probability `p`."""

    p: float

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """on [B]: whether it is done; and what `amounts` says."""
        return {"on": u[:, 0] < self.p, **self.amounts(u[:, 1:])}

    def amounts(self, u: Tensor) -> Parameters:
        """What else is drawn from u [B, SLOTS - 1]: a number [B] from each setting that is a range."""
        ranges = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        ranges = {name: value for name, value in ranges.items() if is_range(value)}
        return {name: between(u[:, k], *value) for k, (name, value) in enumerate(ranges.items())}


class Keyed(Chance):
    """Needs many random numbers, which it hashes from a key that each image draws (`random.more`)."""

    SLOTS: ClassVar[int] = 3

    def amounts(self, u: Tensor) -> Parameters:
        """key [B]"""
        return {"key": random.key(u)}


class Moving(Chance):
    """Moves the images that are `on` by the transforms that `move` gives."""

    def place(self, given: Parameters) -> Tensor:
        return where(given["on"], self.move(given), torch.eye(3, device=given["on"].device))

    def move(self, given: Parameters) -> Tensor:
        """The transforms [B, 3, 3] as if all were on."""
        raise NotImplementedError


class Painting(Chance):
    """Changes the pixels of the images that are `on`, and computes nothing for the others."""

    def paint(self, x: Tensor, given: Parameters) -> Tensor:
        if (on := given["on"]).all():
            return self.change(x, on_device(given, x))
        if not len(rows := on.nonzero()[:, 0]):
            return x
        chosen = on_device({name: value[rows] for name, value in given.items()}, x)
        rows = rows.to(x.device, non_blocking=True)
        return x.index_copy(0, rows, self.change(x[rows], chosen))

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        """Pixels [B, C, S, S] in [0, 1] -> the same as if all were on; parameters lie where x does."""
        raise NotImplementedError


def hints(kind: type) -> dict[str, Any]:
    """The types of an operation's settings, with their limits."""
    return get_type_hints(kind, include_extras=True)


def fill_of(steps: tuple[Operation, ...]) -> Fill | None:
    """The one way in which these steps fill what lies outside of an image, since it is sampled once."""
    ways = {type(step).__name__: fill for step in steps if (fill := step.outside()) is not None}
    if len(set(ways.values())) > 1:
        said = " and ".join(f"{name} {fill!r}" for name, fill in ways.items())
        raise TapetumError(f"a view is sampled once and so has one fill for what lies outside, not {said}.")
    return next(iter(ways.values()), None)


def pixels(size: float, image_size: int) -> int:
    """A size as pixels: ints above 1 are pixels, anything else a share of `image_size`."""
    return size if isinstance(size, int) and size > 1 else max(1, round(size * image_size))


def is_range(value: Any) -> bool:
    """Whether a setting is a lower and an upper end."""
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, int | float) for v in value)


def between(u: Tensor, low: float, high: float) -> Tensor:
    """Numbers in [0, 1) -> numbers in [low, high)."""
    return low + u * (high - low)


def whole(u: Tensor, low: int, high: int) -> Tensor:
    """Numbers in [0, 1) -> whole numbers from low to high, both included, as int64."""
    return (low + (u * (high + 1 - low)).long()).clamp(max=high)


def where(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` for the images chosen [B], `old` for the others."""
    return new.where(chosen.view(-1, *[1] * (new.ndim - 1)), old)


def wide(values: Tensor) -> Tensor:
    """A number for each image [B] -> [B, 1, 1, 1]; a number for each pixel [B, 1, S, S] stays."""
    return values[:, None, None, None] if values.ndim == 1 else values


def on_device(given: Parameters, x: Tensor) -> Parameters:
    """The parameters, where x lies."""
    return {name: value.to(x.device, non_blocking=True) for name, value in given.items()}


def average(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The mean over dims, which are kept. Sums of whole numbers in double precision are exact, so its bits
    depend neither on the batch nor on how a sum is split over threads."""
    count = x[0].numel() // (x.shape[1] if 1 not in dims else 1)
    return ((x * 2**20).round().sum(dims, keepdim=True, dtype=torch.float64) / (2**20 * count)).float()
