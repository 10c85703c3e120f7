"""Balanced assignment against a slow writing of Sinkhorn and Knopp's iterations, and against lightly's."""

import math

import torch
from lightly.loss.swav_loss import sinkhorn as theirs
from scipy.optimize import linear_sum_assignment

from tapetum.parts.assign import equal_partition, sinkhorn


def test_sinkhorn_is_the_alternating_normalisation():
    scores = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q = [[math.exp(float(s) / 0.3) for s in row] for row in scores]
    for _ in range(3):
        columns = [sum(row[k] for row in q) for k in range(4)]
        q = [[row[k] / columns[k] / 4 for k in range(4)] for row in q]
        q = [[x / sum(row) / 6 for x in row] for row in q]
    want = torch.tensor(q, dtype=torch.float64) * 6
    torch.testing.assert_close(sinkhorn(scores, 0.3, 3), want, rtol=1e-12, atol=0)


def test_sinkhorn_is_lightlys():
    scores = torch.randn(32, 8, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    torch.testing.assert_close(sinkhorn(scores, 0.05), theirs(scores, 3, 0.05))


def test_sinkhorn_balances_the_classes_where_a_softmax_would_not():
    scores = torch.randn(64, 4, generator=torch.Generator().manual_seed(2))
    scores[:, 0] += 5  # all would go to one
    assert (scores.softmax(1).sum(0) > 40).any()
    torch.testing.assert_close(sinkhorn(scores, 1.0, 200).sum(0), torch.full((4,), 16.0))


def test_sinkhorn_does_not_underflow():
    scores = torch.tensor([[500.0, 0.0], [0.0, 500.0], [-500.0, -500.0]])
    assert sinkhorn(scores, 0.05).isfinite().all()


def uneven(seed=3):
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(24, 4, dtype=torch.float64, generator=g) + torch.tensor([3.0, 0, 0, -1])).log_softmax(
        1
    )


def test_equal_partition_is_the_alternating_normalisation():
    logp = uneven()
    q = [[math.exp(5 * float(x)) for x in row] for row in logp]
    for _ in range(500):
        columns = [sum(row[k] for row in q) for k in range(4)]
        q = [[x / columns[k] for k, x in enumerate(row)] for row in q]
        q = [[x / sum(row) for x in row] for row in q]
    found = equal_partition(logp, 5.0, tolerance=1e-9, iterations=2000)
    torch.testing.assert_close(found, torch.tensor(q, dtype=torch.float64), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.sum(0), torch.full((4,), 6.0, dtype=torch.float64))


def test_equal_partition_ends_when_the_shares_are_right():
    rough = equal_partition(uneven(), 5.0, tolerance=0.3)
    assert 0.01 < float((rough.sum(0) / 6).log().abs().max()) < 0.3
    torch.testing.assert_close(rough.sum(1), torch.ones(24, dtype=torch.float64))


def test_a_sharp_equal_partition_is_the_best_of_all():
    """Six images for each of four labels, and the sum of logp as large as it can be: scipy's matching."""
    logp = uneven()
    rows, columns = linear_sum_assignment(logp.repeat_interleave(6, 1).numpy(), maximize=True)
    found = equal_partition(logp, 200.0, tolerance=1e-6, iterations=20000).argmax(1)
    assert found[rows].tolist() == (columns // 6).tolist()
