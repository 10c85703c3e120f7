"""Tiles of an image: cutting them out, taking colour from them, and the orders they can be shuffled into."""

import itertools
from functools import cache

import numpy as np
import torch
from torch import Tensor

from tapetum.base import random
from tapetum.base.errors import TapetumError


def cut(x: Tensor, left: Tensor, top: Tensor, side: int) -> Tensor:
    """Tiles [B, N, C, side, side] of x [B, C, H, W], whose left and top borders [B, N] are whole pixels."""
    line = torch.arange(side, device=x.device)
    image = torch.arange(len(x), device=x.device)[:, None, None, None]
    rows, columns = top[:, :, None, None] + line[:, None], left[:, :, None, None] + line
    return x[image, :, rows, columns].movedim(-1, 2)


def whole_patches(side: float, patch: int | None, room: float) -> int:
    """A tile's side in whole pixels and whole patches, as large as `side` allows, at least one patch.

    Raises TapetumError where that is more than there is room for.
    """
    patch = patch or 1
    fitting = max(1, int(side) // patch) * patch
    if fitting > room:
        raise TapetumError(
            f"tiles of {fitting} pixels, the least that this encoder takes, do not fit into the {room:.0f} "
            "that the view leaves them; use larger views (views.crop.size) or smaller patches."
        )
    return fitting


def evened(tiles: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Tiles [..., C, s, s] with their own mean and spread exchanged for `mean` and `std` [C, 1, 1], so that
    neither tells where a tile came from; an encoder that normalises by these sees each normalised."""
    own = tiles.std((-2, -1), keepdim=True, correction=0).clamp(min=1e-3)
    return (tiles - tiles.mean((-2, -1), keepdim=True)) / own * std + mean


def one_channel(tiles: Tensor, mean: Tensor, u: Tensor) -> Tensor:
    """Tiles [N, C, s, s] of which one channel is left, chosen by u [N, 3] in [0, 1); the others become noise
    around `mean` [C, 1, 1] of a hundredth of its spread (arXiv:1505.05192). One channel alone stays."""
    count = tiles.shape[1]
    left = (u[:, 0] * count).long()  # [N]
    kept = torch.arange(count, device=u.device) == left[:, None]  # [N, C]
    spread = tiles.flatten(2).std(2, correction=0)[kept]  # [N]
    noise = random.normal(random.key(u[:, 1:]), tuple(tiles.shape[1:])).to(tiles)
    return torch.where(kept[..., None, None], tiles, mean + 0.01 * spread[:, None, None, None] * noise)


@cache
def far_apart(count: int, tiles: int = 9) -> Tensor:
    """`count` orders of so many tiles [count, tiles] int64, each as far from those before as can be.

    Greedy by the mean Hamming distance (arXiv:1603.09246, algorithm 1), which many orders share; of those the
    one whose nearest is farthest. The first is the order as it is.
    """
    orders = np.array(list(itertools.permutations(range(tiles))), dtype=np.int8).T.copy()  # [tiles, P]
    agree = np.zeros(orders.shape[1], dtype=np.int32)  # with all chosen so far, added up
    most = np.zeros(orders.shape[1], dtype=np.int32)  # with the nearest of them
    chosen = [0]
    while len(chosen) < count:
        same = (orders == orders[:, chosen[-1], None]).sum(0, dtype=np.int32)
        agree += same
        np.maximum(most, same, out=most)
        most[chosen[-1]] = 2**30  # never again
        chosen.append(int((agree * 16 + most).argmin()))
    return torch.from_numpy(orders[:, chosen].T.astype(np.int64))
