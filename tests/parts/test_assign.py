"""Balanced assignment against a slow writing of Sinkhorn and Knopp's iterations, and against lightly's."""

import math

import torch
from lightly.loss.swav_loss import sinkhorn as theirs

from tapetum.parts.assign import sinkhorn


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
