"""Linear probe: logistic regression on stored features, its penalty chosen on held-out training images."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.evaluate.classify import classify
from tapetum.evaluate.result import Result
from tapetum.evaluate.split import folds
from tapetum.evaluate.store import Features
from tapetum.measure.logistic import logistic_path

VERSION = 1
PENALTIES = (100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)
FOLDS = 5
SMALL = 2000  # with fewer labels each of the folds is held out in turn, else only the first


def protocol(
    train: Features, test: Features, *, penalties: Sequence[float] = PENALTIES, **settings: Any
) -> Result:
    """Features are standardised by the training images. The penalty is the one with the lowest cross-entropy
    on a held-out fifth of the training images (stratified); then all train, and the test images report.

    `settings`: metric, labels_per_class, draws, seed; see `classify`.
    """
    penalties = sorted(penalties, reverse=True)
    chosen: list[float] = []

    def probe(x, y, queries, classes, seed):
        if x.numel() <= 2**22:  # double precision where it is cheap
            x, queries = x.double(), queries.double()
        chosen.append(choose(x, y, classes, penalties, seed))
        return next(fit(x, y, queries, classes, chosen[-1:]))

    head = {"penalties": penalties, "folds": FOLDS, "small": SMALL, "standardised": True}
    return classify("linear", VERSION, head, probe, (train, test), details={"penalties": chosen}, **settings)


def fit(x: Tensor, y: Tensor, queries: Tensor, classes: int, penalties: Sequence[float]) -> Iterator[Tensor]:
    """For each penalty the logits [M, C] of `queries` [M, D] by the regression on x [N, D], y [N]."""
    mean, std = x.mean(0), x.std(0, correction=0)
    std = torch.where(std > 1e-6 * std.max(), std, torch.ones_like(std))  # constant columns stay 0
    x, queries = (x - mean) / std, (queries - mean) / std
    for weight, bias in logistic_path(x, y, classes, penalties):
        yield F.linear(queries, weight.to(x.dtype), bias.to(x.dtype))


def choose(x: Tensor, y: Tensor, classes: int, penalties: Sequence[float], seed: int) -> float:
    """The first of the falling `penalties` after which the cross-entropy on held-out rows rises.

    Where each class has one row, nothing can be held out, and it is the first of all.
    """
    fold = torch.from_numpy(folds(y.numpy(), FOLDS, seed))  # [N]
    held = [fold == f for f in range(FOLDS if len(y) < SMALL else 1) if (fold == f).any()]
    paths = [fit(x[~out], y[~out], x[out], classes, penalties) for out in held]
    best, chosen = torch.inf, penalties[0]
    for penalty, answers in zip(penalties, zip(*paths)):
        loss = sum(float(F.cross_entropy(a, y[out], reduction="sum")) for a, out in zip(answers, held))
        if loss > best:
            break
        best, chosen = loss, penalty
    return chosen
