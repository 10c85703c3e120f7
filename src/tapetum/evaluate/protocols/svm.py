"""Linear support vector machines on features of length 1 (Razavian et al. 2014, arXiv:1403.6382)."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from tapetum.base.errors import TapetumError
from tapetum.base.settings import Positive
from tapetum.evaluate.case import Case
from tapetum.evaluate.learn import Learner, learn
from tapetum.evaluate.protocols.logistic import FOLDS, strata
from tapetum.evaluate.result import Result
from tapetum.evaluate.split import folds
from tapetum.measure.metrics import accuracy, mean_average_precision
from tapetum.measure.svm import svm_path

VERSION = 1
COSTS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


def protocol(case: Case, *, costs: tuple[Positive, ...] = COSTS) -> Result:
    """One machine for each class against the rest, with squared hinge loss. The cost is the one with the
    highest accuracy (of several classes an image: mean average precision) on a held-out fifth of the training
    images; then all train, and the test images report.

    Args:
        costs: those that are tried, of a wrong answer against squared weights.
    """
    if case.kind == "number":
        raise TapetumError("svm separates classes; labels of the kind 'number' have none.")
    chosen: list[float] = []
    tried = sorted(costs)
    head = {"costs": tried, "folds": FOLDS, "normalised": True}
    return learn(case, "svm", VERSION, head, learner(tried, chosen), details={"costs": chosen})


def learner(costs: Sequence[float] = COSTS, chosen: list[float] | None = None) -> Learner:
    """The machines, for one class or several an image; the costs that they take are added to `chosen`."""

    def machines(x, y, queries, width, seed):
        x, queries = F.normalize(x, dim=1), F.normalize(queries, dim=1)
        if x.numel() <= 2**22:  # double precision where it is cheap
            x, queries = x.double(), queries.double()
        cost = choose(x, y, width, costs, seed)
        if chosen is not None:
            chosen.append(cost)
        weight, bias = next(svm_path(x, _member(y, width), [cost]))
        return (queries @ weight.T + bias).float()

    return machines


def choose(x: torch.Tensor, y: torch.Tensor, width: int, costs: Sequence[float], seed: int) -> float:
    """The first of the rising `costs` after which held-out rows are answered worse."""
    out = torch.from_numpy(folds(strata(y).numpy(), FOLDS, seed)) == 0  # [N]
    best, chosen = -1.0, costs[0]
    if len(costs) == 1 or not out.any():
        return chosen
    for cost, (weight, bias) in zip(costs, svm_path(x[~out], _member(y[~out], width), costs)):
        scores = x[out] @ weight.T + bias
        score = accuracy(scores.argmax(1), y[out]) if y.ndim == 1 else mean_average_precision(scores, y[out])
        if score < best:
            break
        if score > best:
            best, chosen = score, cost
    return chosen


def _member(y: torch.Tensor, width: int) -> torch.Tensor:
    """[N, C] of 0 and 1."""
    return y if y.ndim == 2 else F.one_hot(y, width)
