"""Histograms of oriented gradients (Dalal and Triggs, CVPR 2005), of whole batches."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.parts.losses import precise

EPS = 1e-5  # of the contrast below which a cell counts as flat


@precise
def hog(x: Tensor, cell: int, bins: int = 9) -> Tensor:
    """Pixels [B, C, H, W] -> [B, C, bins, H // cell, W // cell], each histogram of length 1, or 0 where flat.

    A pixel's gradient is the difference of its neighbours, 0 at the border. It votes with its length for one
    of `bins` directions between 0 and 180 degrees, in square cells of `cell` pixels. Each cell is divided by
    its own length: the local contrast normalisation of MaskFeat, blocks of one cell.
    """
    across = F.pad(x[..., 2:] - x[..., :-2], (1, 1))
    down = F.pad(x[..., 2:, :] - x[..., :-2, :], (0, 0, 1, 1))
    length = (across.square() + down.square()).sqrt()
    turn = torch.where((down < 0) | ((down == 0) & (across < 0)), -1, 1)  # a direction has no sign
    across, down = turn * across, turn * down
    direction = torch.zeros_like(x, dtype=torch.long)  # without atan2, whose bits vary with the place
    for angle in (math.pi * k / bins for k in range(1, bins)):
        direction += math.cos(angle) * down >= math.sin(angle) * across
    cells = torch.stack([F.avg_pool2d(length * (direction == k), cell) for k in range(bins)], 2)
    return cells / (cells.square().sum(2, keepdim=True) + EPS**2).sqrt()
