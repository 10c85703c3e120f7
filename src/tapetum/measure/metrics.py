"""Numbers that compare predictions with labels, and how far they may be off by the choice of images."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tapetum.base import random
from tapetum.measure.calibration import expected_error
from tapetum.measure.segmentation import mean_iou, pixel_accuracy


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
    """The mean, over the positive rows, of the precision among all rows that score at least as high.

    `scores` [N] are numbers, `positive` [N] bool; tied rows count together, as scikit-learn does it. Not a
    number without a positive row.
    """
    order = scores.argsort(descending=True)
    ranked, right = scores[order], positive[order].double()
    last = torch.ones(len(ranked), dtype=torch.bool)
    last[:-1] = ranked[1:] != ranked[:-1]  # of each group of ties
    found, seen = right.cumsum(0)[last], torch.arange(1, len(ranked) + 1)[last]
    gained = found.diff(prepend=found.new_zeros(1))
    return float((gained * found / seen).sum() / right.sum())


def mean_average_precision(scores: Tensor, truth: Tensor) -> float:
    """The mean of `average_precision` over the classes that occur; scores and truth (0 or 1) are [N, C]."""
    there = [c for c in range(truth.shape[1]) if truth[:, c].any()]
    each = [average_precision(scores[:, c], truth[:, c] > 0) for c in there]
    return float(torch.tensor(each).mean())


def false_positives(scores: Tensor, positive: Tensor, recall: float = 0.95) -> float:
    """FPR at 95 % TPR: the share of negative rows that score as high as the best `recall` of the positive.

    `scores` [N] are numbers, `positive` [N] bool; 0 is best. Not a number when either kind is missing.
    """
    ranked, others = scores[positive].sort(descending=True).values, scores[~positive]
    if not len(ranked) or not len(others):
        return float("nan")
    threshold = ranked[math.ceil(recall * len(ranked) - 1e-9) - 1]
    return float((others >= threshold).double().mean())


def calibration_error(answers: Tensor, labels: Tensor) -> float:
    """The expected calibration error, in 15 bins, of answers [N, 2]: a class and the confidence in it."""
    return expected_error(answers[:, 1], answers[:, 0] == labels)


def r2(predicted: Tensor, truth: Tensor) -> float:
    """The share of the variance of `truth` [N] that `predicted` [N] explains; 1 at best, 0 for the mean."""
    predicted, truth = predicted.double(), truth.double()
    return float(1 - (predicted - truth).square().sum() / (truth - truth.mean()).square().sum())


def mean_absolute_error(predicted: Tensor, truth: Tensor) -> float:
    """The mean of |predicted - truth|, both [N], in the labels' own unit."""
    return float((predicted.double() - truth.double()).abs().mean())


def spearman(predicted: Tensor, truth: Tensor) -> float:
    """The correlation of the ranks of `predicted` [N] and `truth` [N], ties sharing their mean rank."""
    return float(torch.corrcoef(torch.stack([_ranks(predicted), _ranks(truth)]))[0, 1])


def _ranks(values: Tensor) -> Tensor:
    _, group, count = values.double().unique(return_inverse=True, return_counts=True)
    return (count.cumsum(0).double() - (count - 1) / 2)[group]


def mean(values: Tensor, truth: Tensor) -> float:
    """The mean of `values` [N]: scores of single rows, such as the average precision of each query."""
    return float(values.double().mean())


# (answers [N, ...], truth [N, ...]) -> a number; and those that fit each kind of labels, the usual one first
METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "auroc": auroc,
    "average_precision": average_precision,
    "fpr95": false_positives,
    "calibration_error": calibration_error,
    "mean_average_precision": mean_average_precision,
    "r2": r2,
    "mean_absolute_error": mean_absolute_error,
    "spearman": spearman,
    "mean": mean,
    "mean_iou": mean_iou,
    "pixel_accuracy": pixel_accuracy,
}
OF_KIND = {
    "class": ("accuracy", "balanced_accuracy", "auroc"),
    "classes": ("mean_average_precision",),
    "number": ("r2", "mean_absolute_error", "spearman"),
}


def bootstrap(metric: Callable[[Tensor], float], n: int, seed: int = 0, repeats: int = 400) -> Tensor:
    """Values of `metric` on n rows drawn with replacement (Efron 1979), float64, sorted.

    `metric` takes row numbers [n] and returns a number; draws on which it is not defined are left out. Their
    spread is the standard error, their quantiles an interval.
    """
    values = []
    for repeat in range(repeats):
        u = random.uniform(seed, repeat, torch.arange(n), "bootstrap").double()
        values.append(metric((u * n).long()))
    found = torch.tensor(values, dtype=torch.float64)
    return found[found.isfinite()].sort().values


def jackknife(measure: Callable[[Tensor], Tensor], n: int, seed: int = 0, groups: int = 10) -> Tensor:
    """The standard errors [K] of the K numbers that `measure` gives of the rows that it takes, of n.

    The rows fall into `groups` by chance; each is left out in turn (Quenouille 1956, Tukey 1958). Unlike the
    bootstrap it repeats no row, which would lower a rank.
    """
    group = random.order(seed, 0, n) % groups
    values = torch.stack([measure((group != g).nonzero()[:, 0]) for g in range(groups)]).double()  # [G, K]
    return ((groups - 1) * values.var(0, correction=0)).sqrt()
