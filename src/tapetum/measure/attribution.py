"""Which parts of an image a score hangs on, and how much is left of it without them.

An image is pixels [C, S, S] in [0, 1]; a score gives one number an image, [B, C, S, S] -> [B]; a part is one
of G x G cells. What is taken away gets the colour `blank` [C, 1, 1].
"""

from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
_AT_ONCE = 32  # variants of an image


def gradients(score: Score, image: Tensor, blank: Tensor, cells: int) -> Tensor:
    """Relevance [G, G]: how steeply the score changes with a cell's pixels, whichever way, summed over
    channels (Simonyan et al. 2014, arXiv:1312.6034)."""
    return in_cells(_slopes(score, image[None])[0].abs().sum(0), cells)


def integrated(score: Score, image: Tensor, blank: Tensor, cells: int, steps: int = 32) -> Tensor:
    """Relevance [G, G]: integrated gradients from the blank image (Sundararajan et al. 2017,
    arXiv:1703.01365), at the middles of `steps` equal parts. Their sum is near the score less the blank's."""
    share = (torch.arange(steps, device=image.device) + 0.5)[:, None, None, None] / steps
    slopes = torch.cat([_slopes(score, blank + part * (image - blank)) for part in share.split(_AT_ONCE)])
    return in_cells(((image - blank) * slopes.mean(0)).sum(0), cells)


@torch.no_grad()
def occlusion(score: Score, image: Tensor, blank: Tensor, cells: int) -> Tensor:
    """Relevance [G, G]: what the score loses without a cell (Zeiler and Fergus 2014, arXiv:1311.2901)."""
    each = torch.eye(cells**2, dtype=torch.bool, device=image.device).unflatten(1, (cells, cells))
    left = torch.cat([score(without(image[None], part, blank)) for part in each.split(_AT_ONCE)])
    return (score(image[None]) - left).unflatten(0, (cells, cells))


def without(images: Tensor, hidden: Tensor, blank: Tensor) -> Tensor:
    """Images [B or 1, C, S, S] whose cells `hidden`, bool [B, G, G], are blank."""
    rows, columns = (_cell_of(side, hidden.shape[-1], images.device) for side in images.shape[-2:])
    return torch.where(hidden[:, rows][:, :, columns][:, None], blank, images)


def ranks(relevance: Tensor) -> Tensor:
    """Each cell's place [G, G] int64 among all, the most relevant 0; of equal ones the first comes first."""
    return relevance.flatten().argsort(descending=True, stable=True).argsort().view_as(relevance)


def area(curve: Tensor) -> Tensor:
    """The mean height [...] of a curve [..., n] through n points at equal distances, ends included."""
    return torch.trapezoid(curve, dim=-1) / (curve.shape[-1] - 1)


def in_cells(pixels: Tensor, cells: int) -> Tensor:
    """The sums of numbers [S, S] over cells [G, G]; each pixel lies in one cell."""
    rows, columns = (_cell_of(side, cells, pixels.device) for side in pixels.shape)
    lines = pixels.new_zeros(cells, pixels.shape[1]).index_add_(0, rows, pixels)
    return pixels.new_zeros(cells, cells).index_add_(1, columns, lines)


def _cell_of(side: int, cells: int, device: torch.device) -> Tensor:
    """Of each pixel of a line [S], its cell."""
    return torch.arange(side, device=device) * cells // side


def _slopes(score: Score, images: Tensor) -> Tensor:
    """The gradient of each image's score, in its pixels' shape."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        (slopes,) = torch.autograd.grad(score(images).sum(), images)
    return slopes
