"""Logistic regression on stored features (ridge for numbers), its penalty chosen on held-out images."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.evaluate.case import Case
from tapetum.evaluate.learn import Learner, learn
from tapetum.evaluate.result import Result
from tapetum.evaluate.split import folds
from tapetum.measure.logistic import logistic_path, ridge_path

VERSION = 2
PENALTIES = (100.0, 10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)
FOLDS = 5
SMALL = 2000  # with fewer labels each of the folds is held out in turn, else only the first


def protocol(case: Case, *, penalties: tuple[float, ...] = PENALTIES) -> Result:
    """Features are standardised by the training images. The penalty is the one with the lowest loss on a
    held-out fifth of the training images; then all train, and the test images report.

    Args:
        penalties: those that are tried, on the mean squared weight.
    """
    chosen: list[float] = []
    head = {
        "penalties": sorted(penalties, reverse=True),
        "folds": FOLDS,
        "small": SMALL,
        "standardised": True,
    }
    run = learner(sorted(penalties, reverse=True), chosen)
    return learn(case, "logistic", VERSION, head, run, details={"penalties": chosen})


def learner(penalties: Sequence[float] = PENALTIES, chosen: list[float] | None = None) -> Learner:
    """The regression, for any kind of labels; the penalties that it takes are added to `chosen`."""

    def probe(x, y, queries, width, seed):
        if x.numel() <= 2**22:  # double precision where it is cheap
            x, queries = x.double(), queries.double()
            y = y.double() if y.is_floating_point() else y
        penalty = choose(x, y, width, penalties, seed)
        if chosen is not None:
            chosen.append(penalty)
        return next(fit(x, y, queries, width, [penalty])).float()

    return probe


def fit(x: Tensor, y: Tensor, queries: Tensor, width: int, penalties: Sequence[float]) -> Iterator[Tensor]:
    """For each penalty the logits, or numbers, [M, width] of `queries` [M, D] by the regression on x, y."""
    mean, std = scale(x)
    x, queries = (x - mean) / std, (queries - mean) / std
    path = ridge_path(x, y, penalties) if y.ndim == 1 and y.is_floating_point() else None
    for weight, bias in path or logistic_path(x, y, width, penalties):
        yield F.linear(queries, weight.to(x.dtype), bias.to(x.dtype))


def scale(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [D] of the columns of x [N, D]; constant columns stay 0."""
    mean, std = x.mean(0), x.std(0, correction=0)
    return mean, torch.where(std > 1e-6 * std.max(), std, torch.ones_like(std))


def loss_of(y: Tensor) -> Callable[..., Tensor]:
    """(answers [M, width], y [M, ...], reduction="sum") -> the loss of labels of this kind."""
    if not y.is_floating_point():
        return F.cross_entropy
    if y.ndim == 2:
        return F.binary_cross_entropy_with_logits
    return lambda answers, y, reduction: F.mse_loss(answers[:, 0], y, reduction=reduction)


def strata(y: Tensor) -> Tensor:
    """Labels of any kind as classes [N] of which a held-out part shall have its share."""
    if not y.is_floating_point():
        return y
    if y.ndim == 2:
        return torch.zeros(len(y), dtype=torch.long)
    return torch.bucketize(y, torch.quantile(y, torch.linspace(0.2, 0.8, 4, dtype=y.dtype)))


def choose(x: Tensor, y: Tensor, width: int, penalties: Sequence[float], seed: int) -> float:
    """The first of the falling `penalties` after which the loss on held-out rows rises.

    Where each class has one row, nothing can be held out, and it is the first of all.
    """
    return tried(x, y, width, penalties, seed)[0]


def tried(
    x: Tensor, y: Tensor, width: int, penalties: Sequence[float], seed: int
) -> tuple[float, Tensor, Tensor]:
    """The penalty that `choose` gives, the rows [h] that were held out for it, and what regressions with that
    penalty, which had not seen them, answered [h, width]."""
    fold = torch.from_numpy(folds(strata(y).numpy(), FOLDS, seed))  # [N]
    held = [fold == f for f in range(FOLDS if len(y) < SMALL else 1) if (fold == f).any()]
    paths = [fit(x[~out], y[~out], x[out], width, penalties) for out in held]
    rows = torch.cat([out.nonzero()[:, 0] for out in held]) if held else torch.zeros(0, dtype=torch.long)
    best, chosen, said, loss_function = torch.inf, penalties[0], x.new_zeros(0, width), loss_of(y)
    for penalty, answers in zip(penalties, zip(*paths)):
        loss = sum(float(loss_function(a, y[out], reduction="sum")) for a, out in zip(answers, held))
        if loss > best:
            break
        best, chosen, said = loss, penalty, torch.cat(answers)
    return chosen, rows, said
