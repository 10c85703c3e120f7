"""Support vector machines against scikit-learn's LinearSVC."""

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from torch.nn.functional import one_hot

from tapetum.measure import svm

COSTS = (0.01, 1.0, 100.0)


def classes_that_overlap(n, d, classes, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    y = (x[:, :classes] + torch.randn(n, classes, generator=g)).argmax(1)
    return x @ torch.randn(d, d, generator=g, dtype=torch.float64) / d, y


def peer(x, y, cost):
    return LinearSVC(C=cost, tol=1e-12, max_iter=100_000, dual=False).fit(x, y)


@pytest.mark.parametrize(("n", "d", "classes"), [(300, 20, 5), (40, 70, 3)])
def test_equals_scikit_learn(n, d, classes):
    x, y = classes_that_overlap(n, d, classes)
    for cost, (weight, bias) in zip(COSTS, svm.svm_path(x, one_hot(y), COSTS)):
        other = peer(x, y, cost)
        np.testing.assert_allclose(weight, other.coef_, atol=1e-5 * np.abs(other.coef_).max())
        np.testing.assert_allclose(bias, other.intercept_, atol=1e-5 * np.abs(other.coef_).max())


def test_single_precision_is_close():
    x, y = classes_that_overlap(300, 20, 5)
    exact = list(svm.svm_path(x, one_hot(y), COSTS))
    for (weight, bias), (w, b) in zip(svm.svm_path(x.float(), one_hot(y), COSTS), exact):
        torch.testing.assert_close(x @ weight.double().T + bias, x @ w.T + b, atol=2e-3, rtol=0)


def test_two_classes_are_mirrored():
    x, y = classes_that_overlap(200, 10, 2)
    ((weight, bias),) = svm.svm_path(x, one_hot(y), [1.0])
    torch.testing.assert_close(weight[0], -weight[1])
    other = peer(x, y, 1.0)  # one weight, not two
    np.testing.assert_allclose(weight[1], other.coef_[0], atol=1e-5)
    assert float(bias[1]) == pytest.approx(other.intercept_[0], abs=1e-5)


def test_the_gradient_is_zero_where_columns_differ_a_thousandfold():
    x, y = classes_that_overlap(200, 12, 3)
    x = x * torch.logspace(-1.5, 1.5, 12, dtype=torch.float64)
    ((weight, bias),) = svm.svm_path(x, one_hot(y), [10.0])
    w = torch.cat([weight, bias[:, None]], 1).requires_grad_()
    sign = 2.0 * (y[:, None] == torch.arange(3)) - 1
    margin = sign * (x @ w[:, :-1].T + w[:, -1])
    (w.square().sum() / 2 + 10 * (1 - margin).clamp(min=0).square().sum()).backward()
    assert float(w.grad.abs().max()) < 1e-4


def test_steps_that_go_too_far_are_halved():
    """Far from the minimum the curvature is of the wrong rows; each step must still lower the objective."""
    weight, step = torch.zeros(2, 1, dtype=torch.float64), torch.tensor([[1.0], [100.0]], dtype=torch.float64)
    margin = torch.zeros(2, 3, dtype=torch.float64)
    gain = step * torch.tensor([[0.5, 1.0, 1.0]], dtype=torch.float64)
    slope = -2 * gain.sum(1)
    size = svm._sizes(weight, step, margin, gain, 1.0, slope)
    assert float(size[0]) == 1 and 0 < float(size[1]) < 0.1
    after = (1 - size * gain).clamp(min=0).square().sum(1) + (size * step).square().sum(1) / 2
    assert bool((after < 3).all())
