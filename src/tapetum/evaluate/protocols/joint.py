"""Nearest neighbours and logistic regression together (Jia et al. 2021, arXiv:2112.08459)."""

from typing import Any

import torch
from torch import Tensor

from tapetum.base.settings import Amount, Count, Positive
from tapetum.evaluate.case import Case
from tapetum.evaluate.known import known
from tapetum.evaluate.learn import answers, truth
from tapetum.evaluate.protocols import knn
from tapetum.evaluate.regression import HEAD, regression
from tapetum.evaluate.result import Result
from tapetum.measure.knn import knn_scores

VERSION = 1
SHARES = torch.linspace(0, 1, 21, dtype=torch.float64)  # of the neighbours, that are tried


def protocol(case: Case, *, k: Count = 20, temperature: Positive = 0.07, hard: Amount = 0.0) -> Result:
    """The probabilities of the protocols "knn" and "logistic" are added, the neighbours' with a share that
    has the lowest cross-entropy on training images which neither had seen. The paper also lets neighbours say
    which training images are hard; in our form an image counts 1 + `hard` times the surprise -log p of its
    own class among its neighbours, itself left out.

    Args:
        k: how many neighbours vote.
        temperature: how much more the nearer ones count.
        hard: how much more an image counts that its neighbours find surprising; 0 counts all alike.
    """
    data = known(case, "joint")
    x, y, width = data.x, data.y, data.width
    weights = None
    if hard:
        own = knn_scores(x, y, x, k, temperature, classes=width, leave_one_out=True)
        weights = 1 + hard * -own.gather(1, y[:, None])[:, 0].clamp(min=1e-3).log()
    fitted, share = regression(x, y, width, case.seed, weights), 0.0
    if len(held := fitted.held):  # answered by their neighbours among the rest
        rest = torch.ones(len(y), dtype=torch.bool)
        rest[held] = False
        near = _neighbours(x, y, held, rest, width, k, temperature)
        share = chosen(near, fitted.logits.softmax(1), y[held])
    near = knn_scores(x, y, data.queries, k, temperature, classes=width).double()
    said = share * near + (1 - share) * fitted(data.queries).softmax(1)
    head: dict[str, Any] = {"k": k, "temperature": temperature, "hard": hard, "shares": len(SHARES)}
    head |= {"knn": knn.VERSION, **HEAD}
    details = {"share of neighbours": share, "penalty": fitted.penalty}
    right = truth(case)[torch.isin(torch.from_numpy(case.labelled.rows), torch.from_numpy(data.rows))]
    return case.result(
        "joint", VERSION, case.metric, answers(said, case)[None], right, rows=data.rows, head=head,
        notes=data.notes, details=details,
    )  # fmt: skip


def _neighbours(
    x: Tensor, y: Tensor, held: Tensor, rest: Tensor, width: int, k: int, temperature: float
) -> Tensor:
    """The votes [h, C] for held-out rows; where all were held out in turn each looks among all others."""
    if rest.any():
        return knn_scores(x[rest], y[rest], x[held], k, temperature, classes=width).double()
    return knn_scores(x, y, x, k, temperature, classes=width, leave_one_out=True)[held].double()


def chosen(near: Tensor, far: Tensor, y: Tensor) -> float:
    """The share of `near` [h, C] beside `far` [h, C] with the lowest cross-entropy for y [h]."""
    p, q = (part.gather(1, y[:, None])[:, 0] for part in (near, far))
    losses = torch.stack([-(s * p + (1 - s) * q).clamp(min=1e-12).log().mean() for s in SHARES])
    return float(SHARES[int(losses.argmin())])
