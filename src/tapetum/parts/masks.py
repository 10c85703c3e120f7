"""Which patches are shown and which are hidden, as indices into the raster of N patches."""

import math

import torch
from torch import Tensor

from tapetum.base.errors import TapetumError


def number(share: float, n: int, least: int = 1) -> int:
    """How many of n patches a share of them is: `least` or more, but not all.

    Raises TapetumError where there are too few patches for that.
    """
    if n <= least:
        raise TapetumError("of a single patch nothing can be hidden; take larger images or smaller patches.")
    return min(max(int(share * n), least), n - 1)


def split(scores: Tensor, hidden: float, least: int = 1) -> tuple[Tensor, Tensor]:
    """Random scores [B, N] -> (keep [B, N-M], hide [B, M]) with M = int(hidden * N), each image its own; M is
    `least` or more, and less than N."""
    order = scores.argsort(1)
    m = number(hidden, scores.shape[1], least)
    return order[:, m:], order[:, :m]


def coarse(scores: Tensor, grid: int, unit: int, hidden: float) -> Tensor:
    """Random scores [B, U] of squares of `unit` patches a side -> the patches [B, N] bool of hidden squares.

    U is the square of grid / unit, rounded up; what lies beyond the grid is cut off.
    """
    _, hide = split(scores, hidden)
    squares = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, hide, True)
    squares = squares.unflatten(1, 2 * (math.isqrt(scores.shape[1]),))
    return squares.repeat_interleave(unit, 1).repeat_interleave(unit, 2)[:, :grid, :grid].flatten(1)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """tokens [B, N, D], index [B, K] -> [B, K, D]"""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def masked_mean(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean over images of the mean of an image's values [B, N] at its chosen places [B, N]."""
    return ((values * chosen).sum(1) / chosen.sum(1).clamp(min=1)).mean()
