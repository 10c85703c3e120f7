"""Regularised multinomial logistic regression, the strength of which is a penalty on the weights."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F


def logistic_path(
    x: Tensor, labels: Tensor, classes: int, penalties: Iterable[float]
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each penalty the weights [C, D] and biases [C] that minimise, over x [N, D] and `labels` [N],

        mean cross-entropy + penalty / 2 * sum of squared weights

    which is scikit-learn's LogisticRegression at C = 1 / (N * penalty); biases are free. Each solution starts
    from the last, so give the largest penalty first. L-BFGS (Liu and Nocedal 1989) runs in coordinates in which
    the curvature is about 1 in all directions, and so needs tens of steps also for strongly correlated columns.
    """
    basis, spread = (part.double() for part in _axes(x))
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, device=x.device)
    bias = torch.zeros(classes, dtype=torch.float64, device=x.device)
    tolerance = 1e-5 if x.dtype == torch.float32 else 1e-8
    for penalty in penalties:
        scale = (spread * (1 - 1 / classes) / classes + penalty).rsqrt()  # [r]; curvature where all is even
        inner = (weight @ basis / scale).requires_grad_()  # weight = (scale * inner) @ basis.T
        bias = bias.detach().requires_grad_()
        steps = torch.optim.LBFGS(
            [inner, bias],
            max_iter=200,
            tolerance_grad=tolerance,
            tolerance_change=tolerance**2,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def objective() -> Tensor:
            steps.zero_grad()  # noqa: B023 (called within this turn of the loop)
            w = scale * inner  # noqa: B023
            logits = F.linear(x, (w @ basis.T).to(x.dtype)).double() + bias
            loss = F.cross_entropy(logits, labels) + penalty / 2 * w.square().sum()  # noqa: B023
            loss.backward()
            return loss

        steps.step(objective)  # type: ignore[arg-type]
        weight = (scale * inner.detach()) @ basis.T
        yield weight, bias.detach().clone()  # the next turn goes on in the same memory


def _axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal directions [D, r] that span the rows of x [N, D], and the mean square along each [r]."""
    n, d = x.shape
    if n >= d:
        spread, basis = torch.linalg.eigh(x.T @ x / n)
        return basis, spread.clamp(min=0)
    spread, left = torch.linalg.eigh(x @ x.T / n)
    there = spread > 1e-6 * spread[-1]
    return x.T @ left[:, there] / (n * spread[there]).sqrt(), spread[there]
