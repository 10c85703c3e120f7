"""Segments of an image that follow its colours, by k-means over place and colour."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.parts.losses import precise
from tapetum.views.sample import centres

COLOUR = 10.0  # a difference of a tenth of the range counts as much as the width of a cell


@torch.no_grad()
@precise
def superpixels(x: Tensor, cells: int, rounds: int = 5) -> Tensor:
    """Images [B, C, S, S] in [0, 1] -> the number [B, S, S] int64 of each pixel's segment, below cells**2.

    They begin as the cells of a regular grid; then each pixel goes to the nearest mean of place and colour
    (as in SLIC, Achanta et al. 2012, but among all segments), `rounds` times. Some may end up empty.
    """
    side = x.shape[-1]
    at = centres(side, x.device).to(x)  # [2, S, S]
    ids = (at[1] * cells).long() * cells + (at[0] * cells).long()
    pixels = torch.cat([COLOUR * x, (cells * at).expand(len(x), -1, -1, -1)], 1).flatten(2).mT  # [B, N, C+2]
    ids = ids.flatten().expand(len(x), -1)  # [B, N]
    for _ in range(rounds):
        members = F.one_hot(ids, cells**2).to(x).mT  # [B, K, N]
        count = members.sum(2, keepdim=True)
        mean = (members @ pixels / count).masked_fill(count == 0, torch.inf)
        ids = torch.cdist(pixels, mean, compute_mode="donot_use_mm_for_euclid_dist").argmin(2)
    return ids.view(-1, side, side)
