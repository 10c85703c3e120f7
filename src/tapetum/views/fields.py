"""Operations that vary over the image: elastic warps, and warps and colours by Gaussian random fields."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from tapetum.base import random
from tapetum.base.settings import Amount, Count
from tapetum.views.colour import brighten, saturate, turn_hue
from tapetum.views.filters import blur
from tapetum.views.operation import (
    Amounts,
    Chance,
    Fill,
    Keyed,
    Painting,
    Parameters,
    Positives,
    between,
    where,
    wide,
)

Exponent = Annotated[float, 0, 10]


def gaussian_fields(key: Tensor, count: int, side: int, waves: int, exponent: float) -> Tensor:
    """Independent smooth random fields of mean 0 and variance 1 for each image: [B, count, S, S].

    Waves of 1/2, 1, 3/2, ... up to `waves` periods a side in each direction, with a power that falls with the
    frequency to the power of `exponent`.
    """
    n = torch.arange(2 * waves + 1, device=key.device)
    square = (n[:, None] ** 2 + n**2).double()
    power = torch.where(square > 0, square.clamp(min=1).log().mul(-exponent / 2).exp(), 0)
    size = (power / power.sum()).sqrt().float().repeat(2, 2)  # [2 N, 2 N]: cosines, then sines
    phase = math.pi * n[:, None] * ((torch.arange(side, device=key.device) + 0.5) / side)
    basis = torch.cat([phase.cos(), phase.sin()]).expand(len(key) * count, -1, -1)  # [B count, 2 N, S]
    shape = (count, *size.shape)
    amplitude = (random.normal(key, shape) * size).flatten(0, 1)
    return torch.bmm(torch.bmm(basis.mT, amplitude), basis).view(len(key), count, side, side)


class Bending(Chance):
    """Moves each pixel of the images that are `on` by what `field` says."""

    TURNS: ClassVar[bool] = True

    def bend(self, given: Parameters, at: Tensor) -> Tensor:
        moved = self.field(given, at)
        return where(given["on"], moved, torch.zeros_like(moved))

    def field(self, given: Parameters, at: Tensor) -> Tensor:
        """By how much [B, 2, S, S] as if all were on, in shares of the view."""
        raise NotImplementedError


@dataclass(frozen=True)
class Elastic(Bending):
    """Move each pixel by noise in [-1, 1] that is smoothed by a Gaussian of `sigma` and multiplied by
    `alpha`, both in pixels of a 224-pixel view, else in proportion; with probability `p`. (Simard and others,
    2003)"""

    alpha: Amounts = (50.0, 50.0)
    sigma: Positives = (5.0, 5.0)
    p: float = 0.5
    fill: Fill = "mirror"
    SLOTS: ClassVar[int] = 5

    def amounts(self, u: Tensor) -> Parameters:
        """alpha, sigma [B] in pixels of a 224-pixel view; key [B]"""
        alpha, sigma = between(u[:, 0], *self.alpha), between(u[:, 1], *self.sigma)
        return {"alpha": alpha, "sigma": sigma, "key": random.key(u[:, 2:])}

    def field(self, given: Parameters, at: Tensor) -> Tensor:
        side = at.shape[-1]
        noise = 2 * random.more(given["key"], (2, side, side)) - 1
        reach = min(side - 1, math.ceil(4 * self.sigma[1] * side / 224))
        return blur(noise, given["sigma"] * (side / 224), reach) * wide(given["alpha"] / 224)


@dataclass(frozen=True)
class FieldWarp(Keyed, Bending):
    """Turn, scale, shear and move about the middle by amounts that vary over the view as independent Gaussian
    random fields, with probability `p`. arXiv:2311.03629

    Args:
        degrees, scale, shear, move: standard deviations of the angle, of the logarithm of the scale, of the
            shear, and of the way in shares of the side.
        waves: the finest waves have this many periods a side.
        exponent: their power falls with the frequency to this power; higher is smoother.
    """

    degrees: Amount = 5.0
    scale: Amount = 0.05
    shear: Amount = 0.05
    move: Amount = 0.02
    waves: Count = 4
    exponent: Exponent = 4.0
    p: float = 0.5
    fill: Fill = "mirror"

    def field(self, given: Parameters, at: Tensor) -> Tensor:
        fields = gaussian_fields(given["key"], 5, at.shape[-1], self.waves, self.exponent)
        turn, scale = fields[:, 0] * (self.degrees * math.pi / 180), (fields[:, 1] * self.scale).exp()
        x, y = at - 0.5
        sheared = x + fields[:, 2] * self.shear * y
        cos, sin = turn.cos() * scale, turn.sin() * scale
        moved = torch.stack([cos * sheared - sin * y - x, sin * sheared + cos * y - y], 1)
        return moved + fields[:, 3:] * self.move


@dataclass(frozen=True)
class FieldJitter(Keyed, Painting):
    """Change brightness, saturation and hue by amounts that vary over the view as independent Gaussian random
    fields, with probability `p`. arXiv:2311.03629

    Args:
        brightness, saturation, hue: standard deviations of the factors around 1, and of turns of the hue.
        waves: the finest waves have this many periods a side.
        exponent: their power falls with the frequency to this power; higher is smoother.
    """

    brightness: Amount = 0.2
    saturation: Amount = 0.2
    hue: Amount = 0.05
    waves: Count = 4
    exponent: Exponent = 4.0
    p: float = 0.5

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        fields = gaussian_fields(given["key"], 3, x.shape[-1], self.waves, self.exponent)
        brightness, saturation, hue = fields.split(1, 1)  # [B, 1, S, S] each
        x = brighten(x, (1 + self.brightness * brightness).clamp(min=0)) if self.brightness else x
        x = saturate(x, (1 + self.saturation * saturation).clamp(min=0)) if self.saturation else x
        return turn_hue(x, self.hue * hue) if self.hue else x
