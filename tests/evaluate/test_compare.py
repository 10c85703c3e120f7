"""Differences in pairs equal slow writings and scipy's, and their intervals hold the truth as they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from small_results import result, said
from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.evaluate.answers import Answers
from tapetum.evaluate.compare import Difference, aligned, better, bootstrapped, difference


def apart(a: Answers, b: Answers) -> Difference:
    return difference(result(None, "A", value=0.0), result(None, "B", value=0.0), a, b)


def chosen(n: int, repeats: int = 400, seed: int = 0):
    """The rows that the bootstrap draws."""
    for repeat in range(repeats):
        u = random.uniform(seed, repeat, torch.arange(n), "bootstrap").double()
        yield (u * n).long().numpy()


# ---- one pair ----


def test_accuracy_is_tested_by_mcnemar_with_a_bootstrap_over_pairs():
    a, b = said(0.6, 1), said(0.72, 2)
    found = apart(a, b)
    right, also = (part.answers[0] == part.truth for part in (a, b))
    only = int((right & ~also).sum()), int((also & ~right).sum())
    assert found.only == only and found.n == 300
    assert found.value == pytest.approx(also.mean() - right.mean())
    assert found.p == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue)
    slow = np.array([also[rows].mean() - right[rows].mean() for rows in chosen(300)])
    assert found.interval == pytest.approx(np.quantile(slow, [0.025, 0.975]))
    assert found.error_bar == pytest.approx(slow.std(ddof=1))
    back = apart(b, a)
    assert (back.value, back.p, back.only) == (pytest.approx(-found.value), found.p, only[::-1])


def test_any_metric_is_drawn_on_the_same_images_for_both():
    g = np.random.default_rng(0)
    truth = g.random(150) < 0.4
    scores = [truth * s + g.normal(size=150) for s in (0.8, 1.5)]
    a, b = (Answers("auroc", s[None], truth, np.arange(150)) for s in scores)
    slow = [
        roc_auc_score(truth[r], scores[1][r]) - roc_auc_score(truth[r], scores[0][r]) for r in chosen(150)
    ]
    np.testing.assert_allclose(bootstrapped(a, b), np.sort(slow), atol=1e-9)
    found = apart(a, b)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.value) / np.std(slow, ddof=1), 149), rel=1e-6)
    assert found.only is None


def test_several_draws_bring_their_own_spread():
    a, b = said(0.5, 1, draws=5), said(0.6, 2, draws=5)
    found = apart(a, b)
    gain = (b.answers == b.truth).astype(float) - (a.answers == a.truth)
    slow = np.array([gain.mean(0)[rows].mean() for rows in chosen(300)])
    parts = [(slow.var(ddof=1), 299), (gain.mean(1).var(ddof=1) / 5, 4)]
    error = sum(v for v, _ in parts) ** 0.5
    freedom = sum(v for v, _ in parts) ** 2 / sum(v**2 / f for v, f in parts)
    assert found.error_bar == pytest.approx(error)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.value) / error, freedom))
    assert found.interval[1] == pytest.approx(found.value + error * stats.t.ppf(0.975, freedom), rel=1e-5)


def test_folds_are_paired_one_by_one_and_their_t_is_corrected():
    g = np.random.default_rng(3)
    fold = np.stack([g.permutation(300) % 5 for _ in range(3)])
    a, b = (replace(said(s, i, draws=3), fold=fold, share=0.25) for i, s in ((1, 0.6), (2, 0.7)))
    found = apart(a, b)
    each = np.array(
        [
            (b.answers[d] == b.truth)[fold[d] == f].mean() - (a.answers[d] == a.truth)[fold[d] == f].mean()
            for d in range(3)
            for f in range(5)
        ]
    )
    error = (each.var(ddof=1) * (1 / 15 + 0.25)) ** 0.5
    assert (found.value, found.error_bar) == (pytest.approx(each.mean()), pytest.approx(error))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(each.mean()) / error, 14))
    assert found.interval[0] == pytest.approx(each.mean() - stats.t.ppf(0.975, 14) * error, rel=1e-5)
    assert found.n == 15


def test_without_answers_errors_add_in_squares():
    a, b = result(None, "A", value=0.5), result(None, "B", value=0.8)
    found = difference(a, b, None, None)
    assert found.error_bar == pytest.approx(0.1 * 2**0.5)
    assert found.p == pytest.approx(2 * stats.norm.sf(0.3 / found.error_bar))
    assert "squares" in found.how and found.n == 0
    same = difference(a, replace(a, subject={"weights": "B"}), said(0.5, 0), None)
    assert (same.value, same.p) == (0, 1)
    unknown = difference(a, replace(b, error_bar=float("nan")), None, None)
    assert np.isnan(unknown.p)


def test_the_same_answers_are_not_apart_and_few_images_never_prove_much():
    a = said(0.6, 1)
    same = apart(a, replace(a))
    assert (same.value, same.p, same.interval, same.only) == (0, 1, (0, 0), (0, 0))
    zeros, ones = (Answers("mean", np.full((1, 4), v), np.zeros(4), np.arange(4)) for v in (0.0, 1.0))
    assert apart(zeros, ones).p == 2**-3, "of four pairs no sign test says more"
    a, b = (replace(said(s, 0, n=4, draws=2), fold=np.array([[0, 1] * 2] * 2), share=1.0) for s in (0, 1))
    assert apart(a, b).p == 2**-3


def test_answers_are_put_in_order_or_refused():
    a, b = said(0.6, 1), said(0.7, 2)
    mixed = np.random.default_rng(0).permutation(300)
    turned = Answers(b.metric, b.answers[:, mixed], b.truth[mixed], b.rows[mixed])
    assert apart(a, turned) == apart(a, b)
    some = Answers(b.metric, b.answers[:, 50:], b.truth[50:], b.rows[50:])
    assert apart(a, some).n == 250
    for other in (
        replace(b, truth=b.truth + 1),
        replace(b, rows=b.rows + 1000),
        replace(b, metric="balanced_accuracy"),
        said(0.7, 2, draws=2),
        replace(b, fold=np.zeros((1, 300), int)),
    ):
        with pytest.raises(TapetumError, match="not of the same images"):
            aligned(a, other)


def test_other_protocols_are_not_subtracted():
    a, b = result(said(0.6, 1), "A"), result(said(0.6, 2), "B", head={"k": 5})
    with pytest.raises(TapetumError, match=r"differ in head\.k"):
        difference(a, b, a.answers, b.answers)


@pytest.mark.parametrize("kind", ["accuracy", "mean"])
def test_intervals_hold_the_truth_and_chance_is_rarely_taken_for_more(kind):
    """Of pairs that share much of their luck; in the first half none is better, in the second one is."""
    g, inside, found_apart = np.random.default_rng(7), 0, 0
    for sample in range(400):
        true = 0.12 * (sample >= 200)
        luck = g.random(120)
        own = np.where(g.random((2, 120)) < 0.5, luck, g.random((2, 120)))  # both uniform in [0, 1]
        pair = own + np.array([[0], [true]]) if kind == "mean" else own < [[0.6], [0.6 + true]]
        truth = np.ones(120, dtype=pair.dtype)
        found = apart(*(Answers(kind, part[None], truth, np.arange(120)) for part in pair))
        inside += found.interval[0] <= true <= found.interval[1]
        found_apart += sample < 200 and found.p < 0.05
    assert 367 <= inside <= 390  # 380 is 95 %, and its standard error 4.4
    assert 2 <= found_apart <= 19  # McNemar's is below 5 %, by what is exact


def test_less_of_an_error_is_better_and_ranks_of_features_are_neither():
    plain = result(None, "A", value=0.5)
    less = ("expected calibration error", "Brier score before scaling", "flip rate", "fpr95 of knn")
    more = ("knn accuracy", "AUROC of energy", "retrieve mAP")
    assert {better(replace(plain, name=name)) for name in (*less, "negative log-likelihood")} == {-1}
    assert {better(replace(plain, name=name)) for name in more} == {1}
    assert better(replace(plain, protocol={**plain.protocol, "metric": "mean_absolute_error"})) == -1
    assert better(replace(plain, protocol={**plain.protocol, "name": "labelfree"})) == 0
