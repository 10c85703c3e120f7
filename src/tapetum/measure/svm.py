"""Linear support vector machines with squared hinge loss, one against the rest, for a whole list of costs."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

_STEPS, _INNER, _HALVINGS = 50, 200, 20  # Newton's; of conjugate gradients within each; of a step's length


@torch.no_grad()
def svm_path(x: Tensor, member: Tensor, costs: Iterable[float]) -> Iterator[tuple[Tensor, Tensor]]:
    """For each cost the weights [C, D] and biases [C] that minimise, for each class over x [N, D],

        1/2 * (sum of squared weights + squared bias) + cost * sum over rows of max(0, 1 - s * score) ** 2

    where s is 1 for a `member` of the class, [N, C] of 0 and 1, and -1 for the rest: scikit-learn's
    LinearSVC. Each solution starts from the last, so give the smallest cost first. Newton's method on all
    classes at once, each step by preconditioned conjugate gradients (Keerthi and DeCoste 2005). x is float64
    for exact answers, float32 for fast ones.
    """
    x = F.pad(x, (0, 1), value=1.0)  # the bias is a weight like any other
    spread, basis = torch.linalg.eigh(x.T @ x)
    x = x @ basis  # in these coordinates the curvature is nearly diagonal
    sign = member.T.to(x.dtype) * 2 - 1  # [C, N]
    weight = x.new_zeros(len(sign), x.shape[1])
    for cost in costs:
        weight = _minimum(x, sign, cost, spread.clamp(min=0), weight)
        whole = weight @ basis.T
        yield whole[:, :-1], whole[:, -1]


def _minimum(x: Tensor, sign: Tensor, cost: float, spread: Tensor, weight: Tensor) -> Tensor:
    """Newton's method from `weight` [C, D]; each row is a problem of its own."""
    tolerance = 1e-5 if x.dtype == torch.float32 else 1e-10
    enough = tolerance * (2 * cost * sign @ x).norm(dim=1)  # [C], of the gradient's length at 0
    score = weight @ x.T  # [C, N]
    for _ in range(_STEPS):
        slack = (1 - sign * score).clamp_(min=0)
        gradient = weight - 2 * cost * (sign * slack) @ x  # [C, D]
        length = gradient.norm(dim=1)
        if bool((length <= enough).all()):
            break
        active = (slack > 0).to(x.dtype)

        def curve(v: Tensor, active: Tensor = active) -> Tensor:
            return v + 2 * cost * (active * (v @ x.T)) @ x

        scale = 1 + 2 * cost * active.mean(1, keepdim=True) * spread  # [C, D]: about the curvature's diagonal
        step = _solve(curve, -gradient, scale, torch.maximum(0.05 * length, enough / 2))
        ahead = step @ x.T
        size = _sizes(weight, step, sign * score, sign * ahead, cost, (gradient * step).sum(1))
        weight, score = weight + size * step, score + size * ahead
    return weight


def _solve(curve: Callable[[Tensor], Tensor], target: Tensor, scale: Tensor, enough: Tensor) -> Tensor:
    """Conjugate gradients for curve(answer) = target [C, D], until no row's rest is longer than `enough`."""
    answer, rest, ready = torch.zeros_like(target), target, target / scale
    direction, power = ready, (rest * ready).sum(1, keepdim=True)
    tiny = torch.finfo(target.dtype).tiny
    for _ in range(_INNER):
        if bool((rest.norm(dim=1) <= enough).all()):
            break
        bent = curve(direction)
        size = power / (direction * bent).sum(1, keepdim=True).clamp(min=tiny)
        answer, rest = answer + size * direction, rest - size * bent
        ready = rest / scale
        before, power = power, (rest * ready).sum(1, keepdim=True)
        direction = ready + power / before.clamp(min=tiny) * direction
    return answer


def _sizes(weight: Tensor, step: Tensor, margin: Tensor, gain: Tensor, cost: float, slope: Tensor) -> Tensor:
    """How far to go along each row of `step` [C, 1]: 1, halved until the objective falls as it should."""

    def objective(size: Tensor) -> Tensor:
        loss = (1 - margin - size * gain).clamp_(min=0).square_().sum(1, dtype=torch.float64)
        return (weight + size * step).double().square().sum(1) / 2 + cost * loss  # [C]

    size = torch.ones_like(slope)[:, None]
    start = objective(torch.zeros_like(size))
    for _ in range(_HALVINGS):
        worse = objective(size) > (1 + 1e-12) * start + 1e-4 * size[:, 0] * slope
        if not bool(worse.any()):
            break
        size = torch.where(worse[:, None], size / 2, size)
    return size
