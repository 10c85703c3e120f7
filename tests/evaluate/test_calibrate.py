"""The protocol for calibration against scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from tapetum.base.errors import TapetumError
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import calibrate

NAMES = ["calibration error", "Brier score", "negative log-likelihood"]


@pytest.fixture
def case(blobs, features_of):
    return Case(features_of(*blobs(2100, spread=2.5)), features_of(*blobs(400, seed=1, spread=2.5)))


def test_numbers_equal_the_field_s_on_scikit_learns_regression(case):
    results = calibrate.protocol(case)
    assert [r.name for r in results] == [
        f"{n} {when}" for when in ("before scaling", "after scaling") for n in NAMES
    ]
    details = results[0].details
    scale = StandardScaler().fit(case.train.x)
    peer = LogisticRegression(C=1 / (2100 * details["penalty"]), tol=1e-8, max_iter=5000)
    peer.fit(scale.transform(case.train.x), case.train.labels)
    logits = torch.from_numpy(peer.decision_function(scale.transform(case.test.x)))
    truth = torch.from_numpy(case.test.labels)
    for scaled, (error, brier, surprise) in ((1.0, results[:3]), (details["temperature"], results[3:])):
        p = (logits / scaled).softmax(1)
        expected = multiclass_calibration_error(p, truth, p.shape[1], n_bins=15)
        assert error.value == pytest.approx(float(expected), abs=2e-3)
        slow = (p - F.one_hot(truth, p.shape[1])).square().sum(1).mean()
        assert brier.value == pytest.approx(float(slow), abs=1e-3)
        assert surprise.value == pytest.approx(log_loss(truth, p), abs=1e-3)
        assert error.error_bar > 0 and error.n == 400
    assert len({r.protocol_id for r in results}) == 6


def test_an_overconfident_regression_is_mended(blobs, features_of, monkeypatch):
    x, y = blobs(400, d=60, spread=3)
    case = Case(features_of(x, y), features_of(*blobs(500, d=60, seed=1, spread=3)))
    monkeypatch.setattr(calibrate.regression.__globals__["logistic"], "PENALTIES", (1e-6,))
    results = {r.name: r for r in calibrate.protocol(case)}
    assert results["calibration error before scaling"].details["temperature"] > 2
    for name in NAMES:
        assert results[f"{name} after scaling"].value < 0.9 * results[f"{name} before scaling"].value


def test_the_temperature_is_chosen_without_the_test_images(case, features_of, blobs):
    other = Case(case.train, features_of(*blobs(100, seed=5, spread=9)))
    first, second = calibrate.protocol(case)[0], calibrate.protocol(other)[0]
    assert first.details["temperature"] == second.details["temperature"]


def test_images_of_new_classes_are_left_out_and_one_row_a_class_gives_no_temperature(blobs, features_of):
    x, y = blobs(300, classes=5)
    q, z = blobs(150, classes=5, seed=1)
    result = calibrate.protocol(Case(features_of(x[y < 4], y[y < 4]), features_of(q, z)))[0]
    assert result.n == int((z < 4).sum()) and np.isfinite(result.value)
    assert any("are left out" in note for note in result.notes)
    assert not any("count as wrong" in note for note in result.notes)
    few = features_of(torch.eye(4, 12), torch.arange(4))
    result = calibrate.protocol(Case(few, features_of(q[z < 4], z[z < 4])))[3]
    assert result.details["temperature"] == 1 and any("stays 1" in note for note in result.notes)


def test_other_labels_than_one_class_are_refused(features_of):
    texts = ["a;b", "b", "a"] * 10
    case = Case(features_of(torch.randn(30, 3), texts), features_of(torch.rand(30, 3), texts), kind="classes")
    with pytest.raises(TapetumError, match="calibrate needs one class an image"):
        calibrate.protocol(case)
