"""What a view is: plain data that says which operations with which ranges; compose with `+`."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from tapetum.base.errors import TapetumError, unknown
from tapetum.base.settings import parse

Range = tuple[float, float]


class Operation:
    """One step of a view. Subclasses are frozen dataclasses; what they compute stands in engine.py."""

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


@dataclass(frozen=True)
class View(Operation):
    """Operations one after the other: `Crop() + Flip() + Jitter()`."""

    steps: tuple[Operation, ...] = ()

    def __add__(self, other: "Operation | View") -> "View":
        return View(self.steps + (other.steps if isinstance(other, View) else (other,)))

    def size(self, image_size: int) -> int:
        """The side of this view's square output, in pixels, in a run whose images are `image_size` wide."""
        sizes = [s.size for s in self.steps if isinstance(s, Crop | Resize)]
        return pixels(sizes[-1] if sizes else 1.0, image_size)


@dataclass(frozen=True)
class Crop(Operation):
    """Random resized crop: a share of the area in `scale`, an aspect in `ratio`, resized to a square.

    Args:
        size: side of the output; a share of the run's image size (0.43), or pixels when it is an int above 1.
        scale: range of the share of the image's area, in (0, 1].
        ratio: range of width / height, drawn log-uniformly.
    """

    size: int | float = 1.0
    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise TapetumError(f"Crop's scale is {self.scale}; shares of the area lie in (0, 1].")
        if self.ratio[0] <= 0:
            raise TapetumError(f"Crop's ratio is {self.ratio}; it must be above 0.")


@dataclass(frozen=True)
class Resize(Operation):
    """The whole image, squashed to a square of `size` (a share of the run's image size, or pixels)."""

    size: int | float = 1.0


@dataclass(frozen=True)
class Shift(Operation):
    """Move the image by up to `share` of its side each way; what comes in from outside is mirrored."""

    share: float = 0.125


@dataclass(frozen=True)
class Flip(Operation):
    """Mirror left and right with probability `p`."""

    p: float = 0.5


@dataclass(frozen=True)
class Jitter(Operation):
    """Change brightness, contrast, saturation (factors in 1 +- x) and hue (turns in +- x), in that order."""

    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    p: float = 0.8


@dataclass(frozen=True)
class Gray(Operation):
    """Replace the colours by their luma with probability `p`."""

    p: float = 0.2


@dataclass(frozen=True)
class Blur(Operation):
    """Gaussian blur with probability `p`; sigma in pixels of a 224-pixel view, else in proportion."""

    p: float = 0.5
    sigma: Range = (0.1, 2.0)


@dataclass(frozen=True)
class Solarise(Operation):
    """Invert what is at least as bright as `threshold` (in [0, 1]) with probability `p`."""

    p: float = 0.2
    threshold: float = 0.5


def pixels(size: float, image_size: int) -> int:
    """A size as pixels: ints above 1 are pixels, anything else a share of `image_size`."""
    return size if isinstance(size, int) and size > 1 else max(1, round(size * image_size))


def leaves(tree: Any) -> Iterator[View]:
    """The views in a nest of dicts and lists."""
    if isinstance(tree, dict):
        for part in tree.values():
            yield from leaves(part)
    elif isinstance(tree, list):
        for part in tree:
            yield from leaves(part)
    else:
        yield View() + tree


def mapped(tree: Any, f: Any) -> Any:
    """The same nest with `f` of every view."""
    if isinstance(tree, dict):
        return {name: mapped(part, f) for name, part in tree.items()}
    if isinstance(tree, list):
        return [mapped(part, f) for part in tree]
    return f(View() + tree)


def whole_patches(tree: Any, image_size: int, patch: int) -> Any:
    """The nest with every view's size in pixels, rounded to a multiple of `patch` (at least one)."""

    def fit(step: Operation) -> Operation:
        if not isinstance(step, Crop | Resize):
            return step
        return replace(step, size=max(1, round(pixels(step.size, image_size) / patch)) * patch)

    return mapped(tree, lambda view: View(tuple(map(fit, view.steps))))


def largest(tree: Any, image_size: int) -> int:
    """The largest side in pixels that any view of the nest asks for."""
    return max(view.size(image_size) for view in leaves(tree))


def schema(tree: Any) -> dict[str, Any]:
    """Every setting of the nest as {"crop.scale": value}; what differs between views is a list of values."""
    found: dict[str, list] = {}
    for view in leaves(tree):
        for step in view.steps:
            for field in fields(step):  # type: ignore[arg-type]
                values = found.setdefault(f"{type(step).__name__.lower()}.{field.name}", [])
                if (value := getattr(step, field.name)) not in values:
                    values.append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def configured(tree: Any, settings: dict[str, Any]) -> Any:
    """The nest with settings replaced: {"crop.scale": (0.2, 1.0)}, or {"flip": 0} for its probability.

    With several branches ({"large": ..., "small": ...}) a branch's name may stand first: "small.crop.scale".
    Raises TapetumError for a setting that no view has.
    """
    if isinstance(tree, dict):
        own = {name: value for name, value in settings.items() if name.split(".")[0] in tree}
        tree = configured_all(tree, {n: v for n, v in settings.items() if n not in own})
        for name, value in own.items():
            part, _, rest = name.partition(".")
            tree = {**tree, part: configured_all(tree[part], {rest: value})}
        return tree
    return configured_all(tree, settings)


def configured_all(tree: Any, settings: dict[str, Any]) -> Any:
    """The nest with the settings replaced in every view that has them."""
    known = schema(tree)
    for name in settings:
        if name not in known and f"{name}.p" not in known:
            short = [n.removesuffix(".p") for n in known if n.endswith(".p")]
            raise unknown("view setting", name, [*known, *short])

    def change(view: View) -> View:
        steps = []
        for step in view.steps:
            kind = type(step).__name__.lower()
            names = {f"{kind}.{f.name}": f.name for f in fields(step)} | {kind: "p"}  # type: ignore[arg-type]
            types = get_type_hints(type(step))
            new = {
                names[n]: parse(f"views.{n}", v, types[names[n]]) for n, v in settings.items() if n in names
            }
            steps.append(replace(step, **new))  # type: ignore[type-var]
        return View(tuple(steps))

    return mapped(tree, change)
