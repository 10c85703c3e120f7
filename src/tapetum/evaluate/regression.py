"""A logistic regression on stored features in parts: its weights, and its answers to held-out rows."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.evaluate.protocols import logistic
from tapetum.measure.logistic import logistic_path

HEAD = {"logistic": logistic.VERSION}  # for protocol ids
_ROWS = 2**13  # in double precision at once


class Regression(NamedTuple):
    """Args:
    weight, bias: float64 [C, D] and [C], of features as they are.
    penalty: on the mean squared weight, chosen on the held-out rows.
    held, logits: the training rows [h] that were held out, and what a regression without them says of them
        [h, C].
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    held: Tensor
    logits: Tensor

    def __call__(self, queries: Tensor) -> Tensor:
        """Logits, float64 [M, C], of queries [M, D]."""
        return torch.cat([F.linear(q.double(), self.weight, self.bias) for q in queries.split(_ROWS)])


def regression(x: Tensor, y: Tensor, classes: int, seed: int, weights: Tensor | None = None) -> Regression:
    """The protocol "logistic" on x [N, D] and y [N]: its penalty, chosen in its way, and then all rows, which
    may count by `weights` [N]."""
    exact = x.double() if x.numel() <= 2**22 else x  # double precision where it is cheap
    penalty, held, logits = logistic.tried(exact, y, classes, logistic.PENALTIES, seed)
    mean, std = logistic.scale(exact)
    weight, bias = next(logistic_path((exact - mean) / std, y, classes, [penalty], weights=weights))
    weight = weight / std.double()
    return Regression(weight, bias - weight @ mean.double(), penalty, held, logits.double())
