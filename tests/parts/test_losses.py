"""Each loss against a slow, independent writing of its formula in float64, and against lightly's."""

import math

import pytest
import torch
from lightly.loss import DINOLoss, NTXentLoss
from torch.nn import functional as F

from tapetum.parts import losses


@pytest.fixture
def rows():
    return torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def slow_contrast(z, ids, temperature):
    u = F.normalize(z, dim=1)
    total = 0.0
    for i in range(len(u)):
        others = [k for k in range(len(u)) if k != i]
        bottom = sum(math.exp(float(u[i] @ u[k]) / temperature) for k in others)
        same = [k for k in others if ids[k] == ids[i]]
        total -= sum(math.log(math.exp(float(u[i] @ u[k]) / temperature) / bottom) for k in same) / max(
            len(same), 1
        )
    return total / len(u)


def test_nt_xent_of_two_views(rows):
    ids = torch.arange(4).repeat(2)
    assert math.isclose(float(losses.nt_xent(rows, ids, 0.3)), slow_contrast(rows, ids, 0.3), rel_tol=1e-12)


def test_nt_xent_is_supcon_when_ids_are_labels(rows):
    ids = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])  # one row without a partner
    assert math.isclose(float(losses.nt_xent(rows, ids, 0.5)), slow_contrast(rows, ids, 0.5), rel_tol=1e-12)


def test_nt_xent_is_lightlys_with_its_gradient():
    a, b = (torch.randn(6, 4, requires_grad=True) for _ in range(2))
    ours = losses.nt_xent(torch.cat([a, b]), torch.arange(6).repeat(2), 0.2)
    theirs = NTXentLoss(temperature=0.2)(a, b)
    torch.testing.assert_close(ours, theirs)
    for x, y in zip(torch.autograd.grad(ours, (a, b)), torch.autograd.grad(theirs, (a, b))):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6)


def test_cosine_distance_is_the_squared_distance_of_unit_vectors(rows):
    p, z = rows.chunk(2)
    want = (
        sum(float((F.normalize(a, dim=0) - F.normalize(b, dim=0)).square().sum()) for a, b in zip(p, z)) / 4
    )
    assert math.isclose(float(losses.cosine_distance(p, z)), want, rel_tol=1e-12)


def test_soft_cross_entropy(rows):
    logits, target = rows.chunk(2)
    target = target.softmax(1)
    want = 0.0
    for i in range(4):
        bottom = sum(math.exp(float(x)) for x in logits[i])
        want -= (
            sum(float(target[i, k]) * math.log(math.exp(float(logits[i, k])) / bottom) for k in range(5)) / 4
        )
    assert math.isclose(float(losses.soft_cross_entropy(logits, target)), want, rel_tol=1e-12)


def test_across_pairs_different_views_only():
    seen = []
    losses.across(
        lambda v, c: (seen.append((int(v), int(c))), v * 0.0)[1],
        list(torch.arange(3.0)),
        list(torch.arange(2.0)),
    )
    assert seen == [(1, 0), (2, 0), (0, 1), (2, 1)]


def test_dinos_loss_is_lightlys():
    """Centre at zero, as at the first step of both."""
    g = torch.Generator().manual_seed(3)
    student, teacher = [torch.randn(4, 7, generator=g) for _ in range(4)], torch.randn(2, 4, 7, generator=g)
    target = (teacher / 0.04).softmax(-1)
    ours = losses.across(losses.soft_cross_entropy, [s / 0.1 for s in student], target)
    theirs = DINOLoss(output_dim=7, teacher_temp=0.04, warmup_teacher_temp=0.04, student_temp=0.1)(
        teacher_out=list(teacher), student_out=student, teacher_temp=0.04
    )
    torch.testing.assert_close(ours, theirs)


def test_losses_are_computed_in_full_precision_under_autocast():
    z, ids = torch.randn(16, 8), torch.arange(8).repeat(2)
    exact = losses.nt_xent(z, ids, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(losses.nt_xent(z, ids, 0.1), exact)
        assert losses.nt_xent(z.bfloat16(), ids, 0.1).dtype == torch.float32
    assert losses.nt_xent(z.double(), ids, 0.1).dtype == torch.float64
