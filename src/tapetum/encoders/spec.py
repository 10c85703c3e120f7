"""How an encoder is built again and how images are prepared for it, as plain data."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from tapetum.base.errors import TapetumError, unknown
from tapetum.data.form import Form

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as nearly every network expects
LARGEST = 2**13  # pixels a side of the images that a file may say it is made for
FITS = ("crop", "pad", "squash")
INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Spec:
    """Args:
    name: what the user asked for.
    model: timm's name of the model; "" for a module that only Python can build.
    args: timm's own arguments for it.
    image_size: side in pixels.
    mean, std: of each channel, for pixels in [0, 1].
    fit: how an image becomes a square: crop its middle, pad it, or squash it.
    crop_pct: share of the shorter side that the crop keeps.
    interpolation: "bilinear" or "bicubic", antialiased.
    levels: values of 16-bit and float images that become black and white; see data.form.
    stem: "" or what was changed beyond timm's arguments; timm cannot load such a model.
    began_from: what the weights were before training here, "none" when random.
    """

    name: str
    model: str
    args: dict[str, Any] = field(default_factory=dict)
    image_size: int = 224
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    fit: str = "crop"
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    levels: tuple[float, float] | None = None
    stem: str = ""
    began_from: str = "none"

    def __post_init__(self):
        if self.fit not in FITS:
            raise unknown("fit", self.fit, FITS)
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)
        object.__setattr__(self, "mean", tuple(map(float, self.mean)))
        object.__setattr__(self, "std", tuple(map(float, self.std)))
        if self.levels is not None:
            object.__setattr__(self, "levels", tuple(map(float, self.levels)))
        self.form  # noqa: B018 (its limits hold here, too)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            **asdict(self),
            "mean": list(self.mean),
            "std": list(self.std),
            "levels": self.levels and list(self.levels),
        }

    @property
    def form(self) -> Form:
        """The form in which images are read for it."""
        return Form(len(self.mean), self.levels)

    def preprocessing(self) -> dict[str, Any]:
        """The part that says how images are prepared."""
        names = ("image_size", "mean", "std", "fit", "crop_pct", "interpolation", "levels")
        return {name: value for name, value in self.as_dict().items() if name in names}

    @classmethod
    def from_dict(cls, facts: Any, where: str) -> "Spec":
        """Raises TapetumError naming the file when a fact is missing or is nothing of the kind."""
        own = {
            f.name: type(f.default)
            for f in fields(cls)
            if f.name not in ("mean", "std", "crop_pct", "levels")
        }
        own |= {"name": str, "model": str, "args": dict}
        try:
            for name, kind in own.items():
                if name in facts and not isinstance(facts[name], kind):
                    raise TypeError(f"its {name} is {facts[name]!r}")
            size, share = facts.get("image_size", 224), facts.get("crop_pct", 1.0)
            if not 0 < size <= LARGEST or type(size) is not int:
                raise ValueError(f"its image_size is {size!r}, not a whole number from 1 to {LARGEST:,}")
            if not 0 < share < 10:
                raise ValueError(f"its crop_pct is {share!r}")
            return cls(**{f.name: facts[f.name] for f in fields(cls) if f.name in facts})
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            raise TapetumError(f"{where} does not describe an encoder: {error}.") from error
