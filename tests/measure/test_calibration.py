"""Calibration against torchmetrics, scikit-learn and scipy."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from tapetum.measure import calibration


def answers(n=800, classes=5, sharpness=3.0, seed=0):
    """Logits [n, C] that are `sharpness` times too sure, and labels [n]."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=g, dtype=torch.double)
    labels = torch.multinomial(logits.softmax(1), 1, generator=g).squeeze(1)
    return sharpness * logits, labels


def sure(logits, labels):
    value, index = logits.softmax(1).max(1)
    return value, index == labels


@pytest.mark.parametrize("bins", [4, 15])
def test_errors_equal_torchmetrics(bins):
    logits, labels = answers()
    confidence, right = sure(logits, labels)

    def peer(norm):
        return float(multiclass_calibration_error(logits, labels, 5, n_bins=bins, norm=norm))

    assert calibration.expected_error(confidence, right, bins) == pytest.approx(peer("l1"), abs=1e-6)
    assert calibration.maximum_error(confidence, right, bins) == pytest.approx(peer("max"), abs=1e-6)


@pytest.mark.parametrize(("by", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_reliability_equals_scikit_learn(by, strategy):
    confidence, right = sure(*answers())
    ours = calibration.reliability(confidence, right, 10, by)
    accuracy, mean = calibration_curve(right, confidence, n_bins=10, strategy=strategy)
    np.testing.assert_allclose(ours.accuracy, accuracy)
    np.testing.assert_allclose(ours.confidence, mean)
    assert ours.rows.sum() == 800
    if by == "mass":
        assert (ours.rows == 80).all()


def test_full_confidence_is_in_the_last_bin_and_ties_share_one():
    confidence, right = torch.tensor([1.0, 1.0, 0.5, 0.0]), torch.tensor([True, False, True, False])
    found = calibration.reliability(confidence, right, 2)
    assert found.rows.tolist() == [2, 2] and found.confidence.tolist() == [0.25, 1.0]
    assert calibration.reliability(torch.full((9,), 0.7), torch.arange(9) > 2, 5, "mass").rows.tolist() == [9]
    assert calibration.expected_error(torch.ones(10), torch.arange(10) > 2) == pytest.approx(0.3)
    assert calibration.maximum_error(torch.ones(10), torch.arange(10) > 2) == pytest.approx(0.3)


def test_proper_scores_equal_scikit_learn():
    logits, labels = answers()
    p = logits.softmax(1)
    brier = calibration.brier(logits, labels)
    assert float(brier.mean()) == pytest.approx(float((p - F.one_hot(labels, 5)).square().sum(1).mean()))
    assert float(calibration.surprise(logits, labels).mean()) == pytest.approx(log_loss(labels, p))
    two = answers(classes=2)
    peer = brier_score_loss(two[1], two[0].softmax(1)[:, 1])
    assert float(calibration.brier(*two).mean()) == pytest.approx(2 * peer)


@pytest.mark.parametrize("sharpness", [0.05, 0.6, 1.0, 8.0, 60.0])
def test_temperature_equals_scipy(sharpness):
    logits, labels = answers(sharpness=sharpness)
    found = calibration.temperature(logits, labels)
    peer = minimize_scalar(
        lambda log_t: float(F.cross_entropy(logits / np.exp(log_t), labels)),
        bounds=(-5, 5),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert found == pytest.approx(np.exp(peer.x), rel=1e-5)
    assert found == pytest.approx(sharpness, rel=0.25)  # by which they were made too sure
    float32 = calibration.temperature(logits.float(), labels)
    assert float32 == pytest.approx(found, rel=1e-5)


def test_temperature_of_perfect_and_of_hopeless_logits_is_a_limit():
    logits = torch.eye(4).repeat(5, 1)
    labels = torch.arange(4).repeat(5)
    assert calibration.temperature(logits, labels) == 0.01
    assert calibration.temperature(-logits, labels) == 100
    assert calibration.temperature(torch.zeros(20, 4), labels) in (0.01, 100)


def test_the_temperature_mends_the_calibration():
    logits, labels = answers(4000)
    mended = logits / calibration.temperature(logits[:2000], labels[:2000])
    before, after = (
        calibration.expected_error(*sure(part[2000:], labels[2000:])) for part in (logits, mended)
    )
    assert before > 0.2 and after < 0.05
