"""Masks made of random rectangles of patches, so that what is hidden, or what is shown, hangs together."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.parts.masks import number
from tapetum.views import Batch

TRIES = 24  # rectangles for an image; a third of them is usually enough
LONGEST = math.log(1 / 0.3)  # the rectangles' height / width lies between 0.3 and 1 / 0.3


def blocks(
    batch: Batch, grid: int, share: Tensor | float, *, exact: bool = False, name: str = "blocks"
) -> Tensor:
    """Hide random rectangles until `share` of an image's patches is hidden (BEiT, arXiv:2106.08254).

    The smallest rectangle covers a ninth of the grid, as BEiT's 16 of 14 x 14 patches do; the largest what
    is still to be hidden.

    Args:
        batch: gives the random numbers, each image its own.
        grid: patches a side.
        share: of the patches, in [0, 1]: one number, which hides at least one, or each image's own [B].
        exact: hide exactly int(share * N) patches; the last rectangle then loses some, at random. Otherwise
            it is whole, and an image may have some more hidden (an eighth of the grid, seldom).
        name: of the random numbers; several masks of one batch need several.

    Returns [B, N] bool, True where a patch is hidden, row by row.
    """
    u = batch.random(name, (TRIES, 4))  # [B, TRIES, 4]
    least = 0 if isinstance(share, Tensor) else 1
    count = torch.as_tensor(share, device=u.device).expand(len(u)) * grid**2 + 1e-4
    count = count.long().clamp(min=least)  # [B]
    when = torch.full((len(u), grid, grid), TRIES, device=u.device)  # the try that hides a patch
    for k in range(TRIES):
        left = count - (when < TRIES).sum((1, 2))  # [B]
        hidden = _rectangles(u[:, k], left, grid) & (left > 0)[:, None, None]
        when = when.where((when < TRIES) | ~hidden, k)
    when = when.flatten(1)
    if not exact:
        return when < TRIES
    order = (when + batch.random(f"{name} order", (grid**2,))).argsort(1)  # [B, N]
    return order.argsort(1) < count[:, None]


def sometimes(
    batch: Batch, crops: int, grid: int, shares: tuple[float, float], chance: float = 1.0
) -> Tensor:
    """`blocks` of several crops of each image, one crop after the other: [crops * B, N] bool.

    With probability `chance` a crop has a share between the two `shares` hidden, else nothing (iBOT,
    arXiv:2111.07832).
    """
    u = batch.random("blocks shares", (crops, 2))  # [B, crops, 2]
    share = (shares[0] + u[..., 1] * (shares[1] - shares[0])) * (u[..., 0] < chance)  # [B, crops]
    return torch.cat([blocks(batch, grid, share[:, i], name=f"blocks {i}") for i in range(crops)])


def inverse_blocks(
    batch: Batch, grid: int, share: float, *, side: int = 3, masks: int = 1, name: str = "inverse blocks"
) -> tuple[Tensor, Tensor]:
    """Show random squares of patches until only `share` of them is hidden (data2vec 2.0, arXiv:2212.07525).

    Args:
        batch: gives the random numbers, each image its own.
        grid: patches a side.
        share: of the patches that is hidden, exactly M = int(share * N), but one or more and less than N: the
            last square loses some, at random.
        side: of a square, in patches; it is cut off at the border.
        masks: how many of each image.
        name: of the random numbers.

    Returns (keep [B * masks, N - M], hide [B * masks, M]), all masks of the first image first.
    """
    u = batch.random(name, (masks, 2, grid**2)).flatten(0, 1)  # [B * masks, 2, N]: squares, patches in them
    centres = u[:, :1].unflatten(2, (grid, grid))
    first = -F.max_pool2d(-centres, side, 1, side // 2)[..., :grid, :grid].flatten(1)  # over a patch
    order = (first.double() + 2.0**-24 * u[:, 1]).argsort(1)  # random numbers are whole 2**-24
    shown = grid**2 - number(share, grid**2)
    return order[:, :shown], order[:, shown:]


def _rectangles(u: Tensor, left: Tensor, grid: int) -> Tensor:
    """A rectangle for each image, where `left` [B] patches are to be hidden, from u [B, 4]: [B, g, g]."""
    least = max(1, (grid // 3) ** 2)
    area = least + u[:, 0] * (left - least).clamp(min=0)
    aspect = ((2 * u[:, 1] - 1) * LONGEST).exp()
    height, width = (side.sqrt().round().clamp(1, grid) for side in (area * aspect, area / aspect))
    down = _within(u[:, 2], height, grid)  # [B, grid]
    across = _within(u[:, 3], width, grid)
    return down[:, :, None] & across[:, None, :]


def _within(u: Tensor, length: Tensor, grid: int) -> Tensor:
    """Which of `grid` places [B, grid] lie in a stretch of that length [B] that begins anywhere it fits."""
    start = (u * (grid - length + 1)).floor()[:, None]
    at = torch.arange(grid, device=u.device)
    return (at >= start) & (at < start + length[:, None])
