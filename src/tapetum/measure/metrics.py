"""Numbers that compare predictions with labels, and how far they may be off by the choice of images."""

from collections.abc import Callable

import torch
from torch import Tensor

from tapetum.base import random


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """The share of `predicted` [N] that equals `labels` [N]."""
    return float((predicted == labels).double().mean())


def balanced_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """The mean over the classes in `labels` [N] of the share of each that is `predicted` [N] rightly."""
    count = torch.bincount(labels)
    right = torch.bincount(labels[predicted == labels], minlength=len(count))
    there = count > 0
    return float((right[there].double() / count[there]).mean())


def auroc(scores: Tensor, positive: Tensor) -> float:
    """The probability that a positive row scores above a negative one, ties counting half.

    `scores` [N] are numbers, `positive` [N] bool. Not a number when either kind is missing.
    """
    _, group, count = scores.double().unique(return_inverse=True, return_counts=True)
    rank = count.cumsum(0).double() - (count - 1) / 2  # a tied group shares its mean rank
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return float("nan")
    above = float(rank[group][positive].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def bootstrap(metric: Callable[[Tensor], float], n: int, seed: int = 0, repeats: int = 200) -> float:
    """The standard error of `metric` over the choice of n rows (Efron 1979).

    `metric` takes row numbers [n], drawn with replacement, and returns a number; draws on which it is not
    defined are left out. Not a number when fewer than two are defined.
    """
    values = []
    for repeat in range(repeats):
        u = random.uniform(seed, repeat, torch.arange(n), "bootstrap").double()
        values.append(metric((u * n).long()))
    found = torch.tensor(values, dtype=torch.float64)
    return float(found[found.isfinite()].std())
