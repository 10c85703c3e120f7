"""Cross-validation: every image is judged by heads that saw none of its group; the results are joined."""

import numpy as np
import pytest
import torch

from tapetum.base.errors import TapetumError
from tapetum.evaluate import crossval
from tapetum.evaluate.protocols import fewlabels, knn


@pytest.fixture
def stored(blobs, features_of):
    x, y = blobs(60)
    y[-3:] = -1
    return features_of(x, y, damaged={0: "truncated"})


def run(stored, protocol, plan, once=False, **settings):
    found = []
    for repeat, fold, rows, case in crossval.cases(stored, plan, None, once, seed=0):
        results = protocol(case, **settings)
        found.append((repeat, fold, rows, results if isinstance(results, list) else [results]))
    return found, crossval.joined(found)


def test_each_image_with_a_label_is_judged_once_a_repeat(stored):
    plan = crossval.plan(stored, "class", 0, None, "", 2)
    assert (plan.fold[:, [0, -1, -2, -3]] == -1).all() and (plan.fold[:, 1:-3] >= 0).all()
    found, (result,) = run(stored, knn.protocol, plan, k=5)
    assert len(found) == 10 and result.answers.answers.shape == (2, 56)
    assert result.answers.rows.tolist() == list(range(1, 57)) and result.n == 56
    for repeat in range(2):
        judged = np.concatenate([rows for r, _, rows, _ in found if r == repeat])
        assert sorted(judged.tolist()) == list(range(1, 57))
    values = [results[0].value for *_, results in found]
    assert result.value == pytest.approx(np.mean(values))
    assert result.protocol["split"] == "2 x 5 folds, stratified, seed 0"
    assert result.protocol["train"] == {"images": 56, "data": stored.data}
    assert (run(stored, knn.protocol, plan, k=5)[1][0]).protocol_id == result.protocol_id
    assert result.answers.share == 0.25


def test_answers_stand_at_their_images(stored):
    plan = crossval.plan(stored, "class", 0, None, "", 1)
    found, (result,) = run(stored, knn.protocol, plan, k=5)
    for _, fold, rows, (part,) in found:
        at = np.searchsorted(result.answers.rows, rows)
        assert (result.answers.fold[0, at] == fold).all()
        np.testing.assert_array_equal(result.answers.answers[0, at], part.answers.answers[0])
    np.testing.assert_array_equal(result.answers.truth, stored.labels[result.answers.rows])


def test_groups_stay_together_and_are_named(stored):
    groups = np.arange(60) // 4
    plan = crossval.plan(stored, "class", 0, groups, "patient", 3)
    for fold in plan.fold:
        for group in range(15):
            assert len(set(fold[groups == group]) - {-1}) <= 1
    assert plan.split(False) == "3 x 5 folds, stratified, never splitting patient, seed 0"


def test_k_adapts_to_the_rarest_class(blobs, features_of):
    x, y = blobs(60)
    y[:3], y[3:] = 3, y[3:] % 3
    assert crossval.plan(features_of(x, y), "class", 0, None, "", 1).count == 3
    y[0] = 4  # a class of one image is never held out and sets nothing
    plan = crossval.plan(features_of(x, y), "class", 0, None, "", 1)
    assert plan.count == 2 and plan.fold[0, 0] == -1
    with pytest.raises(TapetumError, match=r"no class of .* has two images in two groups by patient"):
        crossval.plan(features_of(x, y), "class", 0, y.numpy(), "patient", 1)


def test_repeats_follow_the_size_and_what_takes_long_is_held_out_once(stored, monkeypatch):
    assert len(crossval.plan(stored, "class", 0, None, "", None).fold) == 5
    monkeypatch.setattr(crossval, "REPEATS", ((10, 5), (100, 1)))
    assert len(crossval.plan(stored, "class", 0, None, "", None).fold) == 1
    monkeypatch.setattr(crossval, "REPEATS", ((10, 5),))
    plan = crossval.plan(stored, "class", 0, None, "", None)
    found, (result,) = run(stored, knn.protocol, plan)
    assert plan.once and len(found) == 1 and result.protocol["split"] == "one fold of 5, stratified, seed 0"
    assert set(result.answers.rows) == set(np.flatnonzero(plan.fold[0] == 0))
    monkeypatch.undo()
    whole = crossval.plan(stored, "class", 0, None, "", None)
    assert run(stored, knn.protocol, whole, once=True)[1][0].protocol == result.protocol


def test_draws_within_folds_are_kept_apart(stored):
    plan = crossval.plan(stored, "class", 0, None, "", 2)
    _, (result,) = run(stored, fewlabels.protocol, plan, counts=(2,), shares=(), draws=3)
    assert result.answers.answers.shape == (6, 56) and len(result.answers.values()) == 30


def test_numbers_without_answers_are_averaged(stored):
    def protocol(case):
        value = float(case.test.x.mean())
        return case.measured("x", 1, "mean", value, 0.1, error_kind="its own", n=len(case.test))

    plan = crossval.plan(stored, "class", 0, None, "", 2)
    found, (result,) = run(stored, protocol, plan)
    values = [results[0].value for *_, results in found]
    assert result.value == pytest.approx(np.mean(values))
    assert result.error_bar == pytest.approx(np.std(values, ddof=1) * (1 / 10 + 1 / 4) ** 0.5)


def test_the_error_is_honest(blobs, features_of):
    """Over many small samples the spread of cross-validated accuracies is about what each says of itself."""
    said, values = [], []
    for seed in range(30):
        g = torch.Generator().manual_seed(seed)
        y = torch.randint(2, (60,), generator=g)
        x = torch.randn(60, 2, generator=g) + 0.8 * y[:, None]
        stored = features_of(x, y)
        plan = crossval.plan(stored, "class", seed, None, "", 2)
        _, (result,) = run(stored, knn.protocol, plan, k=9)
        values.append(result.value)
        said.append(result.error_bar)
    assert 0.6 < np.mean(said) / np.std(values, ddof=1) < 2
