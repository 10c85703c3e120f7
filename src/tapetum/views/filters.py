"""Operations on each pixel and its neighbours."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.views.operation import Operation, Parameters, Range, between, where


@dataclass(frozen=True)
class Blur(Operation):
    """Gaussian blur with probability `p`; sigma in pixels of a 224-pixel view, else in proportion."""

    p: float = 0.5
    sigma: Range = (0.1, 2.0)
    SLOTS: ClassVar[int] = 2

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """on [B], sigma [B] in pixels of a 224-pixel view"""
        return {"on": u[:, 0] < self.p, "sigma": between(u[:, 1], *self.sigma)}

    def reach(self, side: int) -> int:
        """How many pixels away the kernel ends, in a view of this side."""
        return min(side - 1, math.ceil(3 * self.sigma[1] * side / 224))

    def paint(self, x: Tensor, given: Parameters) -> Tensor:
        side = x.shape[-1]
        pad = self.reach(side)
        source = torch.arange(-pad, side + pad, device=x.device)
        gap = (source - torch.arange(side, device=x.device)[:, None]).float()  # [S, S + 2 pad]
        sigma = given["sigma"][:, None, None] * (side / 224)
        w = torch.exp(-0.5 * (gap / sigma).square()) * (gap.abs() <= pad)
        w = w / w.sum(2, keepdim=True)
        mirrored = (side - 1) - ((side - 1) - source.abs()).abs()
        w = w @ F.one_hot(mirrored, side).to(w)  # [B, S, S]
        return where(given["on"], w[:, None] @ x @ w[:, None].mT, x)
