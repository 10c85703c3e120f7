"""Which patches are shown and which are hidden, as indices into the raster of N patches."""

import math

import torch
from torch import Tensor


def split(scores: Tensor, hidden: float) -> tuple[Tensor, Tensor]:
    """Random scores [B, N] -> (keep [B, N-M], hide [B, M]) with M = int(hidden * N), each image its own."""
    order = scores.argsort(1)
    m = int(hidden * scores.shape[1])
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


def some(scores: Tensor, share: float) -> Tensor:
    """The places [B, M] of a share of random scores [B, N], each image its own; at least one, but not all."""
    n = scores.shape[1]
    return scores.argsort(1)[:, : min(max(int(share * n), 1), n - 1)]
