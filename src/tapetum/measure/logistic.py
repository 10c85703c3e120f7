"""Regularised multinomial logistic regression, for a whole list of penalties."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F


def logistic_path(
    x: Tensor,
    labels: Tensor,
    classes: int,
    penalties: Iterable[float],
    steps: int = 200,
    weights: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each penalty the weights [C, D] and biases [C] that minimise, over x [N, D] and `labels` [N],

        mean cross-entropy + penalty / 2 * sum of squared weights

    or, for labels of several classes [N, C] in {0, 1}, the sum over classes of their binary cross-entropies,
    which is scikit-learn's LogisticRegression at C = 1 / (N * penalty); biases are free. Each solution starts
    from the last, so give the largest penalty first. x is float64 for exact answers, float32 for fast ones;
    `steps` is how many of L-BFGS each takes at most. With `weights` [N] the mean over rows is a weighted one.
    """
    basis, spread = (part.double() for part in _axes(x))  # [D, r], [r]
    within = basis
    if fewer := len(spread) < x.shape[1]:  # the weights lie in the span of the rows: work there
        x, within = (
            (x.double() @ basis).to(x.dtype),
            torch.eye(len(spread), dtype=torch.float64, device=x.device),
        )
    weight, bias = x.new_zeros(classes, x.shape[1]).double(), x.new_zeros(classes).double()
    share = torch.full((len(x),), 1 / len(x)) if weights is None else weights / weights.sum()
    share = share.to(weight)

    def fitted(logits: Tensor) -> Tensor:
        if labels.ndim == 1:
            return F.cross_entropy(logits, labels, reduction="none") @ share
        return F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="none").sum(1) @ share

    likely = 1 / classes if labels.ndim == 1 else 0.5
    for penalty in penalties:
        scale = (spread * (1 - likely) * likely + penalty).rsqrt()
        inner, bias = _descend(x, fitted, penalty, within * scale, (weight @ within / scale, bias), steps)
        weight = inner @ (within * scale).T
        yield weight @ basis.T if fewer else weight, bias


def _descend(
    x: Tensor,
    fitted: Callable[[Tensor], Tensor],
    penalty: float,
    basis: Tensor,
    start: tuple[Tensor, Tensor],
    most: int,
) -> tuple[Tensor, Tensor]:
    """Minimise `fitted` of the logits, and the penalty, over `inner` [C, r], where weights = inner @ basis.T,
    and biases [C], by L-BFGS.

    In these coordinates the curvature is about 1 in all directions, so that tens of steps are enough for
    strongly correlated columns too (Liu and Nocedal 1989).
    """
    inner, bias = (part.clone().requires_grad_() for part in start)
    tolerance = 1e-5 if x.dtype == torch.float32 else 1e-6
    steps = torch.optim.LBFGS(
        [inner, bias],
        max_iter=most,
        tolerance_grad=tolerance,
        tolerance_change=tolerance**2,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        steps.zero_grad()
        weight = inner @ basis.T
        logits = F.linear(x, weight.to(x.dtype)).double() + bias  # sums in double precision: see small gains
        loss = fitted(logits) + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    steps.step(objective)  # type: ignore[arg-type]
    return inner.detach(), bias.detach()


def _axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal directions [D, r] that span the rows of x [N, D], and the mean square along each [r]."""
    n, d = x.shape
    if n >= d:
        spread, basis = torch.linalg.eigh(x.T @ x / n)
        return basis, spread.clamp(min=0)
    spread, left = torch.linalg.eigh(x @ x.T / n)
    there = spread > 1e-6 * spread[-1]
    return x.T @ left[:, there] / (n * spread[there]).sqrt(), spread[there]


def ridge_path(x: Tensor, y: Tensor, penalties: Iterable[float]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each penalty the weights [K, D] and biases [K] that minimise, over x [N, D] and y [N] or [N, K],

        mean squared error + penalty * sum of squared weights

    for each column of y, which is scikit-learn's Ridge at alpha = N * penalty; biases are free.
    """
    y = y.reshape(len(y), -1)
    middle, mean = x.mean(0), y.mean(0)
    basis, spread = (part.double() for part in _axes(x - middle))
    along = ((y - mean).T @ (x - middle) / len(x)).double() @ basis  # [K, r]
    for penalty in penalties:
        weight = (along / (spread + penalty)) @ basis.T
        yield weight, mean - weight @ middle.double()
