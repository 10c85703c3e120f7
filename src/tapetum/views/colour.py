"""Operations on the colour of each pixel by itself."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from tapetum.base.errors import TapetumError
from tapetum.base.settings import Amount, Share
from tapetum.views.operation import Amounts, Painting, Parameters, average, between, wide

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
Turn = Annotated[float, -0.5, 0.5]  # of the circle of hues


def coloured(x: Tensor, what: str) -> bool:
    """Whether images have colours; those of one channel have none, and stay as they are."""
    if (channels := x.shape[1]) not in (1, 3):
        raise TapetumError(
            f"{what} needs images of 3 channels, or of 1, which it leaves as they are; these have {channels}."
        )
    return channels == 3


def gray(x: Tensor) -> Tensor:
    """Luma [B, 1, S, S]."""
    return LUMA[0] * x[:, 0:1] + LUMA[1] * x[:, 1:2] + LUMA[2] * x[:, 2:3]


def blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """`other` at factor 0, x at factor 1, and beyond; factor [B], or [B, 1, S, S]."""
    factor = wide(factor)
    return (x * factor + other * (1 - factor)).clamp(0, 1)


def brighten(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with black."""
    return (x * wide(factor)).clamp(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean luma (of other numbers of channels than three: the mean)."""
    return blend(x, average(gray(x) if x.shape[1] == 3 else x, (1, 2, 3)), factor)


def saturate(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the luma."""
    return blend(x, gray(x), factor) if coloured(x, "saturation") else x


def turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of x in HSV by `turns` [B], or [B, 1, S, S], of the full circle."""
    if not coloured(x, "hue"):
        return x
    value, low = x.amax(1), x.amin(1)  # [B, S, S]
    chroma = value - low
    r, g, b = x.unbind(1)
    per = chroma.clamp(min=1e-8).reciprocal_()
    sector = torch.where(
        value == r, (g - b) * per, torch.where(value == g, (b - r) * per + 2, (r - g) * per + 4)
    )
    sector.add_(6 * wide(turns)[:, 0])
    k = sector[:, None] + torch.tensor([5.0, 3.0, 1.0], device=x.device)[:, None, None]  # [B, 3, S, S]
    k.sub_(torch.floor(k / 6), alpha=6)  # k modulo 6, in half of the time of %
    return value[:, None] - chroma[:, None] * (2 - k.sub_(2).abs_()).clamp_(0, 1)  # min(k, 4 - k)


@dataclass(frozen=True)
class Jitter(Painting):
    """Change brightness, contrast, saturation (factors in 1 +- x) and hue (turns in +- x), in that order."""

    brightness: Amount = 0.8
    contrast: Amount = 0.8
    saturation: Amount = 0.8
    hue: Annotated[float, 0, 0.5] = 0.2
    p: float = 0.8
    SLOTS: ClassVar[int] = 5

    def amounts(self, u: Tensor) -> Parameters:
        """brightness, contrast, saturation: factors; hue: turns of the circle; all [B]."""
        strengths = (self.brightness, self.contrast, self.saturation)
        b, c, s = (between(u[:, k], max(0.0, 1 - by), 1 + by) for k, by in enumerate(strengths))
        return {"brightness": b, "contrast": c, "saturation": s, "hue": between(u[:, 3], -self.hue, self.hue)}

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        x = brighten(x, given["brightness"]) if self.brightness else x
        x = contrast(x, given["contrast"]) if self.contrast else x
        x = saturate(x, given["saturation"]) if self.saturation else x
        return turn_hue(x, given["hue"]) if self.hue else x


@dataclass(frozen=True)
class Brightness(Painting):
    """Multiply by a factor."""

    factor: Amounts = (0.6, 1.4)
    p: float = 1.0
    SLOTS: ClassVar[int] = 2

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        return brighten(x, given["factor"])


@dataclass(frozen=True)
class Contrast(Painting):
    """Multiply the distance from the mean luma by a factor."""

    factor: Amounts = (0.6, 1.4)
    p: float = 1.0
    SLOTS: ClassVar[int] = 2

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        return contrast(x, given["factor"])


@dataclass(frozen=True)
class Saturation(Painting):
    """Multiply the distance from each pixel's luma by a factor."""

    factor: Amounts = (0.6, 1.4)
    p: float = 1.0
    SLOTS: ClassVar[int] = 2

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        return saturate(x, given["factor"])


@dataclass(frozen=True)
class Hue(Painting):
    """Turn the hue by `turns` of the full circle."""

    turns: tuple[Turn, Turn] = (-0.1, 0.1)
    p: float = 1.0
    SLOTS: ClassVar[int] = 2

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        return turn_hue(x, given["turns"])


@dataclass(frozen=True)
class Gray(Painting):
    """Replace the colours by their luma with probability `p`."""

    p: float = 0.2

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        return gray(x).expand_as(x) if coloured(x, "Gray") else x


@dataclass(frozen=True)
class Solarise(Painting):
    """Invert what is at least as bright as `threshold` (in [0, 1]) with probability `p`."""

    p: float = 0.2
    threshold: Share = 0.5

    def amounts(self, u: Tensor) -> Parameters:
        """threshold [B]"""
        return {"threshold": torch.full((len(u),), self.threshold)}

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        return torch.where(x >= wide(given["threshold"]), 1 - x, x)
