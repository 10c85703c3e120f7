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


def average_precision(scores: Tensor, positive: Tensor) -> float:
    """The area under the precision-recall curve, as a sum over its steps (scikit-learn's and torchmetrics').

    `scores` [N] are numbers, `positive` [N] bool; chance gives the share of positive rows. Not a number
    without positive rows.
    """
    right, wrong = _above(scores, positive)
    if not right[-1]:
        return float("nan")
    return float((right.diff(prepend=right.new_zeros(1)) * right / (right + wrong)).sum() / right[-1])


def false_positives(scores: Tensor, positive: Tensor, recall: float = 0.95) -> float:
    """FPR at 95 % TPR: the share of negative rows that score as high as the best `recall` of the positive.

    `scores` [N] are numbers, `positive` [N] bool; 0 is best. Not a number when either kind is missing.
    """
    right, wrong = _above(scores, positive)
    if not right[-1] or not wrong[-1]:
        return float("nan")
    return float(wrong[(right / right[-1] >= recall).nonzero()[0, 0]] / wrong[-1])


def _above(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """How many positive and how many negative rows score at least each of the distinct scores, the highest
    score first; both float64 [S]."""
    _, group = (-scores.double()).unique(return_inverse=True)
    return tuple(torch.bincount(group, kind.double()).cumsum(0) for kind in (positive, ~positive))  # type: ignore[return-value]


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
