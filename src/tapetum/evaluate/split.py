"""Which images are for what: held-out parts, folds, few labels; a function of labels and seed."""

import numpy as np
import torch

from tapetum.base import random


def _ranks(labels: np.ndarray, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """For each row its place in a random order of its class, and the size of its class; both int64 [N]."""
    u = random.uniform(seed, 0, torch.arange(len(labels)), name).numpy()
    rank, size = np.empty(len(labels), dtype=np.int64), np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rank[rows[np.argsort(u[rows], kind="stable")]] = np.arange(len(rows))
        size[rows] = len(rows)
    return rank, size


def folds(labels: np.ndarray, count: int, seed: int, name: str = "folds") -> np.ndarray:
    """A fold in range(count) for each of the labels [N]; every class is spread evenly over the folds.

    Rows of a class with a single row are in no fold (-1), so that the class is never held out as a whole.
    """
    rank, size = _ranks(labels, seed, name)
    return np.where(
        size > 1, (rank + labels) % count, -1
    )  # "+ labels": small classes do not all begin at fold 0


def grouped_folds(labels: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """A fold in range(count) for each row [N]: no group [N] is in two, and every class is spread evenly.

    Large groups choose first, each the fold that lacks its classes most. Groups with the only rows of a class
    are in no fold (-1), so that the class is never held out as a whole.
    """
    _, group = np.unique(groups, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    table = np.zeros((group.max() + 1, len(classes)), dtype=np.int64)
    np.add.at(table, (group, label), 1)
    if (table.sum(1) == 1).all():
        return folds(label, count, seed)
    only = (table > 0) @ ((table > 0).sum(0) == 1) > 0
    order = np.lexsort((random.order(seed, 0, len(table)).numpy(), -table.sum(1)))
    filled, fold = np.zeros((count, len(classes))), np.full(len(table), -1)
    share = table[~only].sum(0).clip(1) / count
    for g in order:
        if not only[g]:
            after = (filled + table[g]) / share
            fold[g] = np.argmin((after**2 - (filled / share) ** 2).sum(1) + 1e-6 * filled.sum(1))
            filled[fold[g]] += table[g]
    return fold[group]


def held_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Bool [N]: a test part with about `share` of each class, at least one row of two or more."""
    rank, size = _ranks(labels, seed, "held out")
    return rank < np.where(size > 1, np.maximum(1, np.round(share * size)), 0)


def few(labels: np.ndarray, per_class: int | np.ndarray, seed: int) -> np.ndarray:
    """Bool [N]: `per_class` rows of each class (one number, or one for each class [C]), or all where there
    are fewer; none of those labelled -1."""
    most = np.broadcast_to(per_class, (labels.max(initial=0) + 1,))[labels]
    return (_ranks(labels, seed, "few labels")[0] < most) & (labels >= 0)


def in_turn(labels: np.ndarray, seed: int) -> np.ndarray:
    """All rows [N] in an order in which the classes take turns, random within each class."""
    return np.lexsort((labels, _ranks(labels, seed, "in turn")[0]))
