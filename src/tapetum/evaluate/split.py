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


def held_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Bool [N]: a test part with about `share` of each class, at least one row of two or more."""
    rank, size = _ranks(labels, seed, "held out")
    return rank < np.where(size > 1, np.maximum(1, np.round(share * size)), 0)


def few(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Bool [N]: `per_class` rows of each class, or all where there are fewer."""
    return _ranks(labels, seed, "few labels")[0] < per_class


def in_turn(labels: np.ndarray, seed: int) -> np.ndarray:
    """All rows [N] in an order in which the classes take turns, random within each class."""
    return np.lexsort((labels, _ranks(labels, seed, "in turn")[0]))
