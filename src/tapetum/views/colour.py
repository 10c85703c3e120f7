"""Operations on the colour of each pixel by itself."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tapetum.views.operation import Operation, Parameters, between, where

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def gray(x: Tensor) -> Tensor:
    """Luma [B, 1, S, S]."""
    return LUMA[0] * x[:, 0:1] + LUMA[1] * x[:, 1:2] + LUMA[2] * x[:, 2:3]


def blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """`other` at factor 0, x at factor 1, and beyond; factor [B]."""
    factor = factor[:, None, None, None]
    return (x * factor + other * (1 - factor)).clamp(0, 1)


def turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of x [B, 3, S, S] in HSV by `turns` [B] of the full circle."""
    value, low = x.amax(1), x.amin(1)  # [B, S, S]
    chroma = value - low
    r, g, b = x.unbind(1)
    per = chroma.clamp(min=1e-8).reciprocal_()
    sector = torch.where(
        value == r, (g - b) * per, torch.where(value == g, (b - r) * per + 2, (r - g) * per + 4)
    )
    sector.add_(6 * turns[:, None, None])
    k = sector[:, None] + torch.tensor([5.0, 3.0, 1.0], device=x.device)[:, None, None]  # [B, 3, S, S]
    k.sub_(torch.floor(k / 6), alpha=6)  # k modulo 6, in half of the time of %
    return value[:, None] - chroma[:, None] * (2 - k.sub_(2).abs_()).clamp_(0, 1)  # min(k, 4 - k)


@dataclass(frozen=True)
class Jitter(Operation):
    """Change brightness, contrast, saturation (factors in 1 +- x) and hue (turns in +- x), in that order."""

    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    p: float = 0.8
    SLOTS: ClassVar[int] = 5

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """on; brightness, contrast, saturation: factors; hue: turns of the circle; all [B]."""
        strengths = (self.brightness, self.contrast, self.saturation)
        b, c, s = (between(u[:, k], max(0.0, 1 - by), 1 + by) for k, by in enumerate(strengths, 1))
        hue = between(u[:, 4], -self.hue, self.hue)
        return {"on": u[:, 0] < self.p, "brightness": b, "contrast": c, "saturation": s, "hue": hue}

    def paint(self, x: Tensor, given: Parameters) -> Tensor:
        y = x
        if self.brightness:
            y = blend(y, torch.zeros_like(y[:, :1]), given["brightness"])
        if self.contrast:
            y = blend(y, gray(y).mean((1, 2, 3), keepdim=True), given["contrast"])
        if self.saturation:
            y = blend(y, gray(y), given["saturation"])
        if self.hue:
            y = turn_hue(y, given["hue"])
        return where(given["on"], y, x)


@dataclass(frozen=True)
class Gray(Operation):
    """Replace the colours by their luma with probability `p`."""

    p: float = 0.2

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """on [B]"""
        return {"on": u[:, 0] < self.p}

    def paint(self, x: Tensor, given: Parameters) -> Tensor:
        return where(given["on"], gray(x).expand_as(x), x)


@dataclass(frozen=True)
class Solarise(Operation):
    """Invert what is at least as bright as `threshold` (in [0, 1]) with probability `p`."""

    p: float = 0.2
    threshold: float = 0.5

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """on [B]"""
        return {"on": u[:, 0] < self.p}

    def paint(self, x: Tensor, given: Parameters) -> Tensor:
        return where(given["on"], torch.where(x >= self.threshold, 1 - x, x), x)
