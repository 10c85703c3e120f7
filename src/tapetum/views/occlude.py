"""Operations that hide parts of an image, or put them elsewhere."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Share
from tapetum.views.geometry import first_fitting
from tapetum.views.operation import Painting, Parameters, Positives, Shares, average, between, wide

Cover = Literal["zero", "mean", "noise"]


class Hiding(Painting):
    """Covers what `hidden` says with black, with each channel's mean, or with even noise."""

    cover: Cover

    def amounts(self, u: Tensor) -> Parameters:
        """key [B], and what `where_hidden` draws"""
        return {"key": random.key(u[:, :2]), **self.where_hidden(u[:, 2:])}

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        if self.cover == "noise":
            over = random.more(given["key"] + 1, tuple(x.shape[1:]))
        else:
            over = average(x, (2, 3)) if self.cover == "mean" else torch.zeros((), device=x.device)
        return torch.where(self.hidden(given, x.shape[-1]), over, x)

    def where_hidden(self, u: Tensor) -> Parameters:
        """The parameters that `hidden` needs, from u [B, SLOTS - 3]."""
        return {}

    def hidden(self, given: Parameters, side: int) -> Tensor:
        """Which pixels [B, 1, S, S] are covered."""
        raise NotImplementedError


def lines(given: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The places of a view's pixels, across [1, 1, 1, S] and down [1, 1, S, 1], in [0, 1]."""
    line = (torch.arange(side, device=given.device) + 0.5) / side
    return line[None, None, None, :], line[None, None, :, None]


def inside(given: Parameters, side: int) -> Tensor:
    """Whether pixels [B, 1, S, S] lie in boxes: left, top, width, height [B] in shares of the view."""
    left, top, width, height = (wide(given[name]) for name in ("left", "top", "width", "height"))
    x, y = lines(left, side)
    return (x >= left) & (x < left + width) & (y >= top) & (y < top + height)


@dataclass(frozen=True)
class Erase(Hiding):
    """Random erasing of a box with probability `p`: a share of the area in `scale`, width / height in `ratio`
    (log-uniform); the first of ten tries that fits, else nothing. arXiv:1708.04896"""

    scale: Shares = (0.02, 0.33)
    ratio: Positives = (0.3, 3.3)
    cover: Cover = "noise"
    p: float = 0.5
    SLOTS: ClassVar[int] = 25

    def where_hidden(self, u: Tensor) -> Parameters:
        """left, top, width, height [B] in shares of the view"""
        aspect = between(u[:, 12:22], *map(math.log, self.ratio)).exp()
        width, height, ok = first_fitting(between(u[:, 2:12], *self.scale), aspect, 1.0, 1.0)
        left, top = u[:, 0] * (1 - width), u[:, 1] * (1 - height)
        return {"left": left, "top": top, "width": width * ok, "height": height * ok}

    def hidden(self, given: Parameters, side: int) -> Tensor:
        return inside(given, side)


@dataclass(frozen=True)
class Cutout(Hiding):
    """Cover a square of `share` of the side, whose middle lies anywhere in the view, so that it may be cut at
    the border. arXiv:1708.04552"""

    share: Share = 0.5
    cover: Cover = "zero"
    p: float = 1.0
    SLOTS: ClassVar[int] = 5

    def where_hidden(self, u: Tensor) -> Parameters:
        """left, top, width, height [B] in shares of the view"""
        side = torch.full((len(u),), self.share)
        return {"left": u[:, 0] - side / 2, "top": u[:, 1] - side / 2, "width": side, "height": side}

    def hidden(self, given: Parameters, side: int) -> Tensor:
        return inside(given, side)


@dataclass(frozen=True)
class GridMask(Hiding):
    """Cover a grid of squares with probability `p`. arXiv:2001.04086

    Args:
        unit: range of the grid's period, in shares of the view's side.
        keep: share of the period that stays between two squares.
        cover: with what.
    """

    unit: Positives = (96 / 224, 1.0)
    keep: Share = 0.6
    cover: Cover = "zero"
    p: float = 0.7
    SLOTS: ClassVar[int] = 6

    def where_hidden(self, u: Tensor) -> Parameters:
        """unit [B] in shares of the view; left, top [B] in shares of a unit"""
        return {"unit": between(u[:, 0], *self.unit), "left": u[:, 1], "top": u[:, 2]}

    def hidden(self, given: Parameters, side: int) -> Tensor:
        unit, left, top = (wide(given[name]) for name in ("unit", "left", "top"))
        x, y = lines(unit, side)
        x, y = x / unit + left, y / unit + top
        return (x - x.floor() >= self.keep) & (y - y.floor() >= self.keep)


@dataclass(frozen=True)
class BlockMask(Hiding):
    """Hide-and-seek: cut the view into `blocks` x `blocks` and cover each with probability `share`.
    arXiv:1811.02545"""

    blocks: Count = 4
    share: Share = 0.5
    cover: Cover = "mean"
    p: float = 0.5
    SLOTS: ClassVar[int] = 3

    def hidden(self, given: Parameters, side: int) -> Tensor:
        covered = random.more(given["key"], (self.blocks, self.blocks)) < self.share  # [B, N, N]
        block = torch.arange(side, device=covered.device) * self.blocks // side
        return covered[:, block][:, :, block][:, None]


@dataclass(frozen=True)
class PatchShuffle(Painting):
    """Jigsaw: cut the view into `grid` x `grid` patches and put them into another order; what the grid leaves
    at the right and below stays. `order` is the label. arXiv:1603.09246"""

    grid: Annotated[int, 2, 32] = 3
    p: float = 1.0
    SLOTS: ClassVar[int] = 1

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "SLOTS", 1 + self.grid**2)

    def amounts(self, u: Tensor) -> Parameters:
        """order [B, grid * grid] int64: which patch, row by row, comes to each place"""
        return {"order": u.argsort(dim=1, stable=True)}

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        n, patch = self.grid, x.shape[-1] // self.grid
        if not patch:
            raise TapetumError(
                f"PatchShuffle's grid is {n} x {n}, and the view has only {x.shape[-1]} pixels a side."
            )
        b, c = x.shape[:2]
        patches = x[:, :, : n * patch, : n * patch].reshape(b, c, n, patch, n, patch)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(b, n * n, c, patch, patch)
        patches = patches[torch.arange(b, device=x.device)[:, None], given["order"]]
        out = x.clone()
        rows = patches.view(b, n, n, c, patch, patch).permute(0, 3, 1, 4, 2, 5)
        out[:, :, : n * patch, : n * patch] = rows.reshape(b, c, n * patch, n * patch)
        return out
