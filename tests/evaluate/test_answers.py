"""The number, its error bar and its interval follow from the answers."""

import numpy as np
import pytest
import scipy.stats
import torch

from tapetum.base.errors import TapetumError
from tapetum.evaluate.answers import Answers, over_folds, student
from tapetum.measure.metrics import METRICS


def answers(n=400, draws=1, share=0.7, seed=0, **facts) -> Answers:
    g = np.random.default_rng(seed)
    truth = g.integers(0, 3, n)
    said = np.where(g.random((draws, n)) < share, truth, (truth + 1) % 3)
    return Answers("accuracy", said, truth, np.arange(n), **facts)


def test_the_error_of_an_accuracy_is_binomial():
    value, error, (low, high), kind = answers().summary()
    assert error == pytest.approx((value * (1 - value) / 400) ** 0.5, rel=0.15)
    assert low == pytest.approx(value - 1.96 * error, abs=0.015)
    assert high == pytest.approx(value + 1.96 * error, abs=0.015)
    assert kind == "bootstrap over test images"


def test_intervals_cover_the_truth():
    """Of 200 samples of which 70 % are right, about 95 % of the intervals hold 70 %."""
    hits = 0
    for seed in range(200):
        _, _, (low, high), _ = answers(100, seed=seed).summary()
        hits += low <= 0.7 <= high
    assert 180 <= hits <= 198


def test_draws_add_to_the_error():
    one, five = answers(draws=1), answers(draws=5)
    value, error, _, kind = five.summary()
    assert value == pytest.approx(np.mean([(a == five.truth).mean() for a in five.answers]))
    each = torch.from_numpy((five.answers == five.truth).mean(0))
    between = five.values().std(ddof=1) / 5**0.5
    assert error == pytest.approx(np.hypot(float(each.std()) / 400**0.5, between), rel=0.15)
    assert "draws" in kind and one.summary()[1] > 0


def test_folds_have_the_corrected_error():
    g = np.random.default_rng(1)
    fold = np.stack([g.permutation(400) % 5 for _ in range(3)])
    drawn = answers(draws=3)
    found = Answers("accuracy", drawn.answers, drawn.truth, drawn.rows, fold, 0.25)
    values = [
        (found.answers[r][fold[r] == f] == found.truth[fold[r] == f]).mean()
        for r in range(3)
        for f in range(5)
    ]
    value, error, (low, high), kind = found.summary()
    assert found.values() == pytest.approx(values) and value == pytest.approx(np.mean(values))
    assert error == pytest.approx((np.var(values, ddof=1) * (1 / 15 + 1 / 4)) ** 0.5)
    half = scipy.stats.t.ppf(0.975, 14) * error
    assert (low, high) == pytest.approx((value - half, value + half), rel=1e-4)
    assert over_folds(np.array(values), 0.25)[0] == pytest.approx(value) and "folds" in kind


def test_students_quantile():
    for freedom in (4, 9, 24, 200):
        assert student(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=5e-3)
    assert student(0) == float("inf")


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_every_metric_is_kept_and_read_again(tmp_path, metric):
    g = np.random.default_rng(0)
    truth, said = g.integers(0, 2, 60), g.random((2, 60))
    if metric in ("accuracy", "balanced_accuracy"):
        said = (said > 0.5).astype(np.int64)
    elif metric in ("mean_iou", "pixel_accuracy"):
        right = g.integers(0, 9, (2, 60, 3))  # pixels of each class told rightly, told, and there
        truth, said = right.max(0) + 3, np.stack([right, right + 2], 3)
    elif metric == "calibration_error":
        said = np.stack([(said > 0.5) * 1.0, said], 2)
    elif metric == "mean_average_precision":
        truth, said = g.integers(0, 2, (60, 3)), g.random((2, 60, 3))
    elif metric == "auroc":
        truth = truth == 1
    elif metric in ("r2", "spearman", "mean_absolute_error"):
        truth = truth.astype(np.float64) + g.random(60)
    kept = Answers(metric, said, truth, np.arange(60), seed=3)
    kept.save(tmp_path / "a.npz", [f"{i}.png" for i in range(60)])
    again = Answers.load(tmp_path / "a.npz")
    assert again.summary() == kept.summary() and again.seed == 3 and again.fold is None
    assert np.isfinite(kept.summary()[:2]).all()


def test_a_damaged_file_is_one_sentence(tmp_path):
    for content in (b"", b"PK\3\4 no more", b"x" * 100):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(TapetumError, match="holds no answers"):
            Answers.load(tmp_path / "a.npz")
    with pytest.raises(TapetumError, match="holds no answers"):
        Answers.load(tmp_path / "none.npz")
    np.savez(tmp_path / "b.npz", answers=np.zeros(2), truth=np.zeros(2), rows=np.zeros(2), metric="best")
    with pytest.raises(TapetumError, match="no metric 'best'"):
        Answers.load(tmp_path / "b.npz")
