"""How well an image finds those like it: average precision and its relatives, plain and revisited.

Every measure of one query is a function of its `ranks`: the places, from 0 and ascending, of all its positive
images in the order of falling similarity. With equal similarity a positive image stands behind the others, so
that features which are all the same score low.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_CELLS = 2**24  # similarities held at once: 64 MB
POSITIVE, NEGATIVE, IGNORED = 1, 0, -1
# level -> the grades of an image that are positive, and those that are as if it were not there; what has no
# grade is negative
LEVELS = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}


@torch.no_grad()
def ranked(gallery: Tensor, queries: Tensor, kinds: Callable[[int], np.ndarray]) -> Iterator[np.ndarray]:
    """The ranks of each query's positive rows of `gallery` [N, D] by cosine similarity; `queries` [M, D].

    `kinds(i)` says for query i what each row of the gallery is, [N]: POSITIVE, NEGATIVE or IGNORED.
    """
    gallery = F.normalize(gallery.float(), dim=1)
    portion = max(1, _CELLS // len(gallery))
    for start in range(0, len(queries), portion):
        part = F.normalize(queries[start : start + portion].float(), dim=1)
        for i, far in enumerate((part @ gallery.T).neg_().cpu().numpy(), start):
            yield _ranks(far, kinds(i))


def _ranks(far: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """The ranks of the positive ones, each of which is so far away [N]."""
    right, wrong = np.sort(far[kind == POSITIVE]), np.sort(far[kind == NEGATIVE])
    return np.searchsorted(wrong, right, side="right") + np.arange(len(right))


def same_class(
    labels: np.ndarray, truth: np.ndarray, leave_one_out: bool = False
) -> Callable[[int], np.ndarray]:
    """`kinds` for queries of the classes `truth` [M] in a gallery of the classes `labels` [N], or of several
    classes each: [M, C] and [N, C] of 0 and 1, where one in common is enough.

    Rows of the gallery labelled -1 are ignored. With `leave_one_out` the queries are the gallery's rows, and
    none finds itself.
    """

    unknown = -(labels < 0).astype(np.int8).reshape(len(labels), -1)[:, 0]  # IGNORED

    def kinds(query: int) -> np.ndarray:
        kind = unknown + (labels == truth[query] if labels.ndim == 1 else labels @ truth[query] > 0)
        if leave_one_out:
            kind[query] = IGNORED
        return kind

    return kinds


def apart(kinds: Callable[[int], np.ndarray], groups: np.ndarray) -> Callable[[int], np.ndarray]:
    """The same `kinds`, but no row of the gallery is seen by a query of its own group; groups [N], queries as
    rows of the gallery.
    """
    return lambda query: np.where(groups == groups[query], np.int8(IGNORED), kinds(query))


def among_others(kinds: Callable[[int], np.ndarray], count: int) -> Callable[[int], np.ndarray]:
    """The same `kinds` of a gallery that has `count` further rows, none of which is positive."""
    return lambda query: np.pad(kinds(query), (0, count), constant_values=NEGATIVE) if count else kinds(query)


def graded(grades: Sequence[Mapping[str, Sequence[int]]], level: str, n: int) -> Callable[[int], np.ndarray]:
    """`kinds` for the revisited Oxford and Paris at a level of LEVELS (Radenovic et al. 2018, 1803.11285).

    `grades` has for each query the rows of the gallery [n] by grade: "easy", "hard" and "junk".
    """

    def kinds(query: int) -> np.ndarray:
        kind = np.full(n, NEGATIVE, dtype=np.int8)
        for names, value in zip(LEVELS[level], (POSITIVE, IGNORED)):
            for name in names:
                kind[np.asarray(grades[query].get(name, ()), dtype=np.int64)] = value
        return kind

    return kinds


def average_precision(ranks: np.ndarray) -> float:
    """The mean over positive images of the precision down to each: torchmetrics' and, over the whole gallery,
    pytorch-metric-learning's definition. Not a number without positive images.
    """
    return float(np.mean(np.arange(1, len(ranks) + 1) / (ranks + 1))) if len(ranks) else np.nan


def trapezoid_precision(ranks: np.ndarray) -> float:
    """Average precision as Oxford and Paris are scored: the area under precision over recall by the trapezoid
    rule, so each positive image counts with the mean of the precisions just before and at it.
    """
    if not len(ranks):
        return np.nan
    found = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, found / np.maximum(ranks, 1))
    return float(np.mean(before + (found + 1) / (ranks + 1)) / 2)


def recall_at(ranks: np.ndarray, k: int) -> float:
    """1 if any of the k nearest images is positive, else 0: recall@k as metric learning has it (Jegou et al.
    2011), torchmetrics' hit rate. Not a number without positive images.
    """
    return float(ranks[0] < k) if len(ranks) else np.nan


def precision_at(ranks: np.ndarray, k: int) -> float:
    """The share of positive images among the k nearest. Not a number without positive images."""
    return float(np.searchsorted(ranks, k) / k) if len(ranks) else np.nan


def revisited_precision_at(ranks: np.ndarray, k: int) -> float:
    """Precision at k, or at the last positive image where that comes earlier: of this mP@k is the mean."""
    return precision_at(ranks, min(k, int(ranks[-1]) + 1)) if len(ranks) else np.nan


def r_precision(ranks: np.ndarray) -> float:
    """The share of positive images among the R nearest, where R is the number of positive images."""
    return precision_at(ranks, len(ranks))


def map_at_r(ranks: np.ndarray) -> float:
    """MAP@R: average precision in which only the R nearest images count, where R is the number of positive
    ones (Musgrave et al. 2020, arXiv:2003.08505).
    """
    if not len(ranks):
        return np.nan
    near = ranks[ranks < len(ranks)]
    return float(np.sum(np.arange(1, len(near) + 1) / (near + 1)) / len(ranks))
