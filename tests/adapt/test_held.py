"""Temperature, threshold and accuracy from images held out: against slow writings and planted cases."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tapetum.adapt import held as module
from tapetum.adapt.held import Held, cross_fitted, headed, held_out, learnt, near
from tapetum.evaluate.split import folds


def crossed(x, y, width, penalty, repeats=1, count=5, once=False):
    fold = np.stack([folds(y.numpy(), count, seed) for seed in range(repeats)])
    return cross_fitted(x, y, width, fold, count, once, 0, penalty)


def test_a_head_is_the_regression_and_the_distance_to_the_kth_neighbour(blobs):
    x, y = blobs(90)
    queries, _ = blobs(7, seed=1)
    head = learnt(x, y, 4, 3, 0, 0.01)
    logits, distance = head.of_many(queries)
    mean, std = x.double().mean(0), x.double().std(0, correction=0)
    z, q = (x.double() - mean) / std, (queries.double() - mean) / std
    for i in range(len(q)):
        cosines = sorted((float(q[i] @ row / q[i].norm() / row.norm()) for row in z), reverse=True)
        assert float(distance[i]) == pytest.approx(1 - cosines[2], abs=1e-6)
    sklearn = pytest.importorskip("sklearn.linear_model")
    theirs = sklearn.LogisticRegression(C=1 / (len(x) * 0.01), tol=1e-8, max_iter=1000).fit(z, y)
    assert np.allclose(logits.double().softmax(1), theirs.predict_proba(q), atol=1e-4)


def test_a_head_keeps_no_more_features_than_it_may(blobs, monkeypatch):
    monkeypatch.setattr(module, "BANK", 30)
    x, y = blobs(90)
    head = learnt(x, y, 4, 3, 0, 0.01)
    assert head.bank.shape == (30, 12)
    assert len(head.bank.unique(dim=0)) == 30


@pytest.mark.parametrize("counts, k", [((300, 200), 10), ((300, 7), 3), ((2, 2), 1), ((1, 50), 1)])
def test_the_neighbour_that_counts_lies_within_the_smallest_class(counts, k):
    assert near(torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))) == k


def test_the_temperature_lowers_the_loss_of_an_overconfident_head_on_new_images(blobs):
    x, y = blobs(160, d=40, spread=3.0)
    held = crossed(x, y, 4, 1e-5)
    temperature = held.temperature()
    new, truth = blobs(2000, d=40, spread=3.0, seed=1)
    logits, _ = learnt(x, y, 4, 1, 0, 1e-5).of_many(new)
    before, after = F.cross_entropy(logits, truth), F.cross_entropy(logits / temperature, truth)
    assert temperature > 2 and after < 0.5 * before
    report = held.report(0.05)
    assert report["expected calibration error after"] < 0.6 * report["expected calibration error before"]
    assert report["negative log-likelihood after"] < 0.5 * report["negative log-likelihood before"]


def test_a_fold_is_calibrated_by_the_others_alone(blobs):
    x, y = blobs(80)
    held = crossed(x, y, 4, 1e-3, repeats=2)
    before = held.calibrated()
    mine = torch.from_numpy(held.fold == 1)
    changed = held.logits.clone()
    changed[mine] = -3 * changed[mine]
    after = Held(held.answers, changed, *list(vars(held).values())[2:]).calibrated()
    assert torch.allclose(after[mine], -3 * before[mine])  # its own answers do not move its temperature
    assert not torch.allclose(after[~mine], before[~mine])


def test_images_held_out_at_one_time_calibrate_each_other(blobs):
    x, y = blobs(120)
    held = crossed(x, y, 4, 1e-3, once=True)
    assert held.logits.shape[0] == 1 and len(held.y) == pytest.approx(24, abs=4)
    ratio = (held.logits / held.calibrated())[0, :, 0]
    assert 2 <= len({round(float(r), 5) for r in ratio}) <= 5


def test_few_images_that_are_all_right_do_not_make_certain(blobs):
    y = torch.arange(3).repeat(4)
    logits = 8.0 * F.one_hot(y, 3)[None].float()
    zeros = torch.zeros(1, 12)
    held = Held(y[None], logits, zeros, y, zeros == 0, np.arange(12)[None] % 4, 4, np.arange(12), 0)
    sure = (logits / held.temperature()).softmax(2).amax(2)
    assert (sure > 0.8).all() and (sure < 0.99).all()


def test_a_class_that_a_fold_has_not_learnt_counts_as_wrong_but_moves_no_temperature(blobs):
    x, y = blobs(60)
    fold = np.arange(60)[None] % 3
    fold[0, y == 3] = 0  # all of one class
    held = cross_fitted(x, y, 4, fold, 3, False, 0, 1e-2)
    assert not held.right[0, held.y == 3].any() and not held.learnt[0, held.y == 3].any()
    known = held.y != 3
    without = Held(
        held.answers[:, known], held.logits[:, known], held.distance[:, known], held.y[known],
        held.learnt[:, known], held.fold[:, known], 3, held.rows[known], 0,
    )  # fmt: skip
    assert held.temperature() == pytest.approx(without.temperature())


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_the_flag_finds_a_new_class_and_its_share_of_the_old(blobs, share):
    x, y = blobs(600, d=20, spread=0.5)
    threshold = crossed(x, y, 4, 1e-2).threshold(share)
    head = learnt(x, y, 4, near(y), 0, 1e-2)
    _, seen = head.of_many(blobs(2000, d=20, spread=0.5, seed=1)[0])
    assert float((seen > threshold).double().mean()) == pytest.approx(share, abs=0.35 * share)
    new = -blobs(500, d=20, spread=0.5, seed=2)[0]
    assert float((head.of_many(new)[1] > threshold).double().mean()) > 0.9


def test_rows_in_no_fold_are_always_learnt_and_never_judged(blobs):
    x, y = blobs(50)
    y[0] = 4
    fold = folds(y.numpy(), 5, 0)[None]
    held = cross_fitted(x, y, 5, fold, 5, False, 0, 1e-2)
    assert held.rows.tolist() == list(range(1, 50)) and held.y.tolist() == y[1:].tolist()


def test_the_fold_that_a_tuned_head_has_not_learnt_from(blobs):
    x, y = blobs(60)
    fold = np.arange(60) % 5
    head = headed(x[fold != 0], torch.eye(4, 12), torch.zeros(4), torch.zeros(12), torch.ones(12), 2, 0)
    held = held_out(head, x, y, fold, 5, 0)
    assert held.rows.tolist() == list(range(0, 60, 5)) and torch.equal(held.logits[0], x[::5, :4])
    assert torch.equal(held.answers[0], x[::5, :4].argmax(1))
