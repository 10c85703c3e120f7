"""Operations on each pixel and its neighbours."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base import random
from tapetum.views.colour import blend
from tapetum.views.operation import Amounts, Painting, Parameters, Positives, between, wide


def blur(x: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Gaussian blur of x [B, C, S, S] by sigma [B] in pixels, over `reach` pixels each way, mirrored at the
    edges."""
    side = x.shape[-1]
    source = torch.arange(-reach, side + reach, device=x.device)
    gap = (source - torch.arange(side, device=x.device)[:, None]).float()  # [S, S + 2 reach]
    w = torch.exp(-0.5 * (gap / sigma[:, None, None]).square()) * (gap.abs() <= reach)
    w = w / w.sum(2, keepdim=True)
    mirrored = (side - 1) - ((side - 1) - source.abs()).abs()
    w = w @ F.one_hot(mirrored, side).to(w)  # [B, S, S]
    return w[:, None] @ x @ w[:, None].mT


@dataclass(frozen=True)
class Blur(Painting):
    """Gaussian blur with probability `p`; sigma in pixels of a 224-pixel view, else in proportion."""

    p: float = 0.5
    sigma: Positives = (0.1, 2.0)
    SLOTS: ClassVar[int] = 2

    def reach(self, side: int) -> int:
        """How many pixels away the kernel ends, in a view of this side."""
        return min(side - 1, math.ceil(3 * self.sigma[1] * side / 224))

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        side = x.shape[-1]
        return blur(x, given["sigma"] * (side / 224), self.reach(side)).clamp_(0, 1)


@dataclass(frozen=True)
class Sharpness(Painting):
    """Multiply the distance from a 3 x 3 smoothing by a factor with probability `p`; the border stays."""

    factor: Amounts = (0.1, 1.9)
    p: float = 1.0
    SLOTS: ClassVar[int] = 2

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        side = x.shape[-1]
        if side < 3:
            return x
        middle = x[:, :, 1:-1, 1:-1]
        smooth = middle * 5  # of 13: PIL's kernel
        for i in range(3):
            for j in range(3):
                if (i, j) != (1, 1):
                    smooth = smooth + x[:, :, i : side - 2 + i, j : side - 2 + j]
        out = x.clone()
        out[:, :, 1:-1, 1:-1] = blend(middle, smooth / 13, given["factor"])
        return out


@dataclass(frozen=True)
class Noise(Painting):
    """Add Gaussian noise of standard deviation `sigma` (of values in [0, 1]) with probability `p`."""

    sigma: Amounts = (0.0, 0.1)
    p: float = 1.0
    SLOTS: ClassVar[int] = 4

    def amounts(self, u: Tensor) -> Parameters:
        """sigma [B], key [B]"""
        return {"sigma": between(u[:, 0], *self.sigma), "key": random.key(u[:, 1:])}

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        noise = random.normal(given["key"], tuple(x.shape[1:]))
        return (x + noise * wide(given["sigma"])).clamp(0, 1)
