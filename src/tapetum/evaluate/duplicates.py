"""Images that are there twice: equal contents, and pictures that hardly differ."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base.console import Progress
from tapetum.features import Features

SIDE = 16  # pixels of the thumbnails that are compared
LIKE = 0.99  # correlation of two thumbnails, and
NEAR = 0.015  # root mean square of their difference in [0, 1], beyond which pictures differ
MOST = 4e9  # pairs of images beyond which only equal contents are looked for: a minute and a half
_CELLS = 2**24


@dataclass(frozen=True)
class Pairs:
    """first, second: rows [P] of the one and the other part that show the same; exact: those of equal content
    [P]; looked: whether pictures were compared, too."""

    first: np.ndarray
    second: np.ndarray
    exact: np.ndarray
    looked: bool


def twins(first: Features, second: Features) -> Pairs:
    """Pairs of images of two parts that show the same; where both are one part each pair is there once.

    Both hold the raw pixels [N, C 32 32] of `baselines.pixels`. Two images are the same when their contents
    are equal, or when thumbnails of 16 x 16 pixels correlate by 0.99 and differ by 1.5 % of the range: copies
    that were resized or compressed again, not crops and not mirror images.
    """
    same = first is second
    looked = len(first) * len(second) <= MOST
    found = _equal(first, second)
    if looked:
        found |= {pair: False for pair in _alike(first, second) if pair not in found}
    pairs = sorted(pair for pair in found if not same or pair[0] < pair[1])
    a, b = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return Pairs(a, b, np.array([found[pair] for pair in pairs], dtype=bool), looked)


def _equal(first: Features, second: Features) -> dict[tuple[int, int], bool]:
    rows: dict[bytes, list[int]] = {}
    for row, key in enumerate(first.keys):
        if key:
            rows.setdefault(key, []).append(row)
    return {(a, b): True for b, key in enumerate(second.keys) for a in rows.get(key, [])}


def _alike(first: Features, second: Features) -> list[tuple[int, int]]:
    rows = [np.flatnonzero(part.there) for part in (first, second)]
    a, b = (_thumbnails(part.x, at) for part, at in zip((first, second), rows))
    ready = _ready(a)
    found = []
    portion = max(1, _CELLS // max(1, len(a)))
    with Progress(len(b), "duplicates") as bar:
        for start in range(0, len(b), portion):
            part = b[start : start + portion]
            i, j = (_ready(part) @ ready.T > LIKE).nonzero(as_tuple=True)
            near = torch.cat(
                [
                    (part[i[k : k + 4096]] - a[j[k : k + 4096]]).square().mean(1) < NEAR**2
                    for k in range(0, len(i), 4096)
                ]
                or [torch.zeros(0, dtype=torch.bool)]
            )
            found += list(zip(rows[0][j[near].numpy()].tolist(), rows[1][i[near].numpy() + start].tolist()))
            bar.advance(len(part))
    return found


def _thumbnails(x: np.ndarray, rows: np.ndarray) -> Tensor:
    """Raw pixels [N, C 32 32] in [-1, 1] -> thumbnails [n, C 16 16] in [0, 1]."""
    parts = []
    for start in range(0, len(rows), 4096):
        images = torch.from_numpy(np.asarray(x[rows[start : start + 4096]])).unflatten(1, (-1, 32, 32))
        parts.append(F.avg_pool2d(images, 32 // SIDE).flatten(1) / 2 + 0.5)
    return torch.cat(parts) if parts else torch.zeros(0, 1)


def _ready(x: Tensor) -> Tensor:
    """Each row less its mean, at length one; a picture of one colour correlates with none."""
    x = x - x.mean(1, keepdim=True)
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-6)


def united(n: int, pairs: Pairs, groups: np.ndarray | None = None) -> np.ndarray:
    """A group [n] for each row: that given, joined with those of its duplicates."""
    parent = np.arange(n)
    if groups is not None:
        _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        parent = first[inverse]

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in zip(pairs.first.tolist(), pairs.second.tolist()):
        parent[root(b)] = root(a)
    return np.array([root(i) for i in range(n)])
