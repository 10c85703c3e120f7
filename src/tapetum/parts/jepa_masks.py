"""Rectangles of patches to be predicted, and the patches that they are predicted from. arXiv:2301.08243"""

import math

import torch
from torch import Tensor

from tapetum.base.errors import TapetumError
from tapetum.parts.masks import split
from tapetum.views import Batch
from tapetum.views.operation import Range


def block_size(u: Tensor, grid: int, scale: Range, ratio: Range) -> tuple[int, int]:
    """Height and width of a block in patches, from two numbers u [2] in [0, 1).

    Args:
        u: what was drawn.
        grid: patches a side.
        scale: range of the share of the grid's area.
        ratio: range of height / width.
    """
    area, aspect = (low + (high - low) * x for x, (low, high) in zip(u.tolist(), (scale, ratio), strict=True))
    sides = (math.sqrt(area * aspect) * grid, math.sqrt(area / aspect) * grid)
    height, width = (min(max(round(side), 1), grid) for side in sides)
    return height, width


def placed(corner: Tensor, size: tuple[int, int], grid: int) -> Tensor:
    """The patches of blocks of one size [B, M, height * width], from where they lie [B, M, 2] in [0, 1)."""
    (height, width), room = size, torch.tensor(size, device=corner.device)
    top, left = (corner * (grid + 1 - room)).long().unbind(-1)  # [B, M]
    rows = top[..., None] + torch.arange(height, device=corner.device)
    columns = left[..., None] + torch.arange(width, device=corner.device)
    return (rows[..., None] * grid + columns[..., None, :]).flatten(2)


def target_blocks(batch: Batch, grid: int, count: int, scale: Range, ratio: Range) -> Tensor:
    """Blocks [B, M, L] that each image draws for itself, of a size that the batch draws.

    M is `count`, or fewer so that some patch is always left. Raises TapetumError where one block alone leaves
    none.
    """
    size = block_size(batch.random("block size", (2,), per="batch"), grid, scale, ratio)
    count = min(count, (grid**2 - 1) // (size[0] * size[1]))
    if count < 1:
        raise TapetumError(
            f"a block of {size[0]} x {size[1]} leaves nothing of {grid} x {grid} patches to predict it from; "
            "lower the blocks' scale, or take larger images or smaller patches."
        )
    return placed(batch.random("blocks", (count, 2)), size, grid)


def context(batch: Batch, targets: Tensor, grid: int, scale: Range) -> Tensor:
    """The patches [B, K] that are shown: of no target [B, M, L], and within a large square block as far as
    there are so many.

    K is what is left where no two targets overlap, so that every image keeps equally many, whatever else is
    in its batch; of more than that, a random K.
    """
    side = block_size(batch.random("context size", (2,), per="batch"), grid, scale, (1, 1))
    within = placed(batch.random("context", (1, 2)), side, grid)[:, 0]
    rank = batch.random("order", (grid**2,)) + 1  # [1, 2): outside the context block
    rank.scatter_(1, within, rank.gather(1, within) - 1)  # [0, 1)
    rank.scatter_(1, targets.flatten(1), 3.0)
    return rank.argsort(1)[:, : grid**2 - targets[0].numel()]


def hidden_places(batch: Batch, targets: Tensor, grid: int, blocks: float, share: float) -> Tensor:
    """Which places of a map are hidden, [B, 1, grid, grid] bool: in a share `blocks` of the images those of
    targets [B, M, L], in the others a share of single ones (arXiv:2408.07514)."""
    _, single = split(batch.random("single", (grid**2,)), share)
    shown = torch.zeros(len(batch), grid**2, dtype=torch.bool, device=single.device)
    in_blocks = batch.random("in blocks", (1,)) < blocks
    hide = torch.where(in_blocks, shown.scatter(1, targets.flatten(1), True), shown.scatter(1, single, True))
    return hide.view(-1, 1, grid, grid)
