"""KoLeo against its formula and lightly's."""

import math

import torch
from lightly.loss import KoLeoLoss

from tapetum.parts.koleo import koleo


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_koleo_is_the_log_distance_to_the_nearest():
    x = rows(9, 4)
    unit = [[float(v) / math.hypot(*row.tolist()) for v in row] for row in x]
    nearest = [min(math.dist(a, b) for b in unit if b is not a) for a in unit]
    assert math.isclose(float(koleo(x)), -sum(map(math.log, nearest)) / 9, rel_tol=1e-7)


def test_koleo_is_lightlys_with_its_gradient():
    x = rows(16, 8).requires_grad_()
    ours, theirs = koleo(x), KoLeoLoss()(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, x)[0] for loss in (ours, theirs)), rtol=1e-5, atol=1e-8
    )


def test_koleo_pushes_neighbours_apart_and_stays_finite_where_they_are_equal():
    x = torch.tensor([[1.0, 0.1], [1.0, 0.0], [-1.0, 0.3]], requires_grad=True)
    (gradient,) = torch.autograd.grad(koleo(x), x)
    assert koleo(x - 0.1 * gradient) < koleo(x)
    equal = torch.ones(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(koleo(equal), equal)
    assert gradient.isfinite().all()
