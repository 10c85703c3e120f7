"""Scores of unknown rows against pytorch-ood and slow writings; planted unknowns must be seen."""

import numpy as np
import pytest
import torch
from pytorch_ood import detector
from pytorch_ood import metrics as peers
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import average_precision_score
from torchmetrics.functional.classification import binary_average_precision

from tapetum.measure import metrics, unknown

CLASSES = 4


def blobs(n, seed, far=0.0, d=12):
    g = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(CLASSES, d, generator=torch.Generator().manual_seed(9), dtype=torch.double)
    y = torch.arange(n) % CLASSES
    scale = 3 ** torch.linspace(-1, 1, d, dtype=torch.double)
    x = centres[y] + scale * torch.randn(n, d, generator=g, dtype=torch.double)
    return (x + far).float(), y


@pytest.fixture(scope="module")
def rows():
    (x, y), (q, _) = blobs(300, 0), blobs(80, 1)
    return x, y, q


@pytest.fixture(scope="module")
def head():
    g = torch.Generator().manual_seed(4)
    return torch.randn(CLASSES, 12, generator=g), torch.randn(CLASSES, generator=g)


def agree(ours, peer, tolerance=1e-4):
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, peer.double(), rtol=tolerance, atol=tolerance)


def test_scores_of_logits_equal_pytorch_ood(rows, head):
    logits = rows[2] @ head[0].T + head[1]
    agree(unknown.max_softmax(logits), 1 + detector.MaxSoftmax.score(logits))
    agree(unknown.max_logit(logits), detector.MaxLogit.score(logits))
    agree(unknown.energy(logits), detector.EnergyBased.score(logits))
    agree(unknown.energy(logits, 3.0), detector.EnergyBased.score(logits, t=3.0))
    agree(unknown.entropy(logits), detector.Entropy.score(logits))


def test_sure_rows_keep_their_order():
    logits = torch.tensor([[80.0, 0.0], [90.0, 0.0]])
    first, second = unknown.max_softmax(logits)
    assert first > second > 0
    assert (unknown.entropy(torch.tensor([[1e4, 0.0]])) == 0).all()


@pytest.mark.parametrize("k", [1, 10, 500])
def test_knn_distance_equals_pytorch_ood(rows, k, monkeypatch):
    x, y, q = rows
    peer = detector.KNN(None, k=min(k, len(x))).fit_features(x, y)
    agree(unknown.knn_distance(x, q, k), peer.predict_features(q))
    monkeypatch.setattr(unknown, "_CELLS", 7 * len(x))
    agree(unknown.knn_distance(x, q, k), peer.predict_features(q))


def test_mahalanobis_equals_pytorch_ood(rows, monkeypatch):
    x, y, q = rows
    monkeypatch.setattr(unknown, "_ROWS", 7)  # in portions
    peer = detector.Mahalanobis(None).fit_features(x, y)
    agree(unknown.mahalanobis(x, y, q, CLASSES), 2 * len(x) * peer.predict_features(q))
    peer = detector.RMD(None).fit_features(x, y)
    agree(unknown.relative_mahalanobis(x, y, q, CLASSES), len(x) * peer.predict_features(q), 1e-3)


def test_mahalanobis_of_one_class_equals_scikit_learn(rows):
    x, y, q = rows
    peer = EmpiricalCovariance().fit(x.double().numpy()).mahalanobis(q.double().numpy())
    agree(unknown.mahalanobis(x, torch.zeros_like(y), q, 1), torch.from_numpy(peer))


def test_fewer_rows_than_dimensions_give_finite_distances(rows):
    x, y, q = rows
    assert unknown.mahalanobis(x[:8], y[:8], q, CLASSES).isfinite().all()


@pytest.mark.parametrize("principal", [3, 6])
def test_vim_equals_pytorch_ood(rows, head, principal):
    x, y, q = rows
    peer = detector.ViM(None, principal, *head).fit_features(x, y)
    agree(unknown.vim(x, q, *head, principal), peer.predict_features(q), 1e-3)
    if principal == 6:  # half of 12, the default
        agree(unknown.vim(x, q, *head), peer.predict_features(q), 1e-3)


def test_residual_and_cosine_equal_slow_writings(rows):
    x, y, q = (part.double() if part.is_floating_point() else part for part in rows)
    origin = x.mean(0)
    _, _, axes = np.linalg.svd((x - origin).numpy())
    outside = [v - sum((v @ a) * a for a in axes[:5]) for v in (q - origin).numpy()]
    agree(unknown.residual(x, origin, 5)(q), torch.tensor(np.linalg.norm(outside, axis=1)))
    means = [x[y == c].mean(0) for c in range(CLASSES)]
    slow = [1 - max(float(v @ m / v.norm() / m.norm()) for m in means) for v in q]
    agree(unknown.class_mean_cosine(x, y, q, CLASSES), torch.tensor(slow))


def test_planted_unknown_rows_score_above_known_ones(rows):
    x, y, known = rows
    strange, _ = blobs(80, 2, far=torch.tensor([4.0, -4.0] * 6))
    both, positive = torch.cat([known, strange]), torch.arange(160) >= 80
    for score in (
        unknown.knn_distance(x, both),
        unknown.mahalanobis(x, y, both, CLASSES),
        unknown.relative_mahalanobis(x, y, both, CLASSES),
        unknown.residual(x, x.mean(0), 2)(both),
        unknown.class_mean_cosine(x, y, both, CLASSES),
    ):
        assert metrics.auroc(score, positive) > 0.8


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_the_field_s(seed):
    g = np.random.default_rng(seed)
    positive = torch.from_numpy(g.integers(0, 3, 300) > 1)
    scores = torch.from_numpy(g.integers(0, 12 + 500 * seed, 300) / 7) + positive  # many ties, and few
    labels = -positive.long()  # pytorch-ood: out is below 0, and positive
    peer = peers.FPRAtTPR().update(scores, labels).compute()["FPR95TPR"]
    assert metrics.false_positives(scores, positive) == pytest.approx(peer)
    ours = metrics.average_precision(scores, positive)
    assert ours == pytest.approx(average_precision_score(positive, scores))
    assert ours == pytest.approx(
        float(binary_average_precision(scores / scores.max(), positive.long())), abs=1e-6
    )
    for metric in (metrics.average_precision, metrics.false_positives):
        assert np.isnan(metric(scores, positive & False))


def test_metrics_of_a_perfect_and_of_a_reversed_score():
    positive = torch.arange(100) >= 40
    scores = torch.arange(100)
    assert metrics.false_positives(scores, positive) == 0
    assert metrics.average_precision(scores, positive) == 1
    assert metrics.false_positives(-scores, positive) == 1
    assert metrics.false_positives(torch.zeros(100), positive) == 1
    assert metrics.average_precision(torch.zeros(100), positive) == pytest.approx(0.6)
