"""The protocols that learn from labels against scikit-learn on stored features, and what they share."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    r2_score,
    roc_auc_score,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from sklearn.preprocessing import StandardScaler

from tapetum.base.errors import TapetumError
from tapetum.evaluate import protocols
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import fewlabels, knn, linear, logistic
from tapetum.evaluate.result import differences
from tapetum.evaluate.split import few, folds, grouped_folds, held_out

PROTOCOLS = (knn, linear, logistic)


def weights(distance):
    return np.exp((1 - distance) / 0.07)


def neighbours(case: Case):
    """scikit-learn's share of votes for each class."""
    model = KNeighborsClassifier(20, weights=weights, metric="cosine", algorithm="brute")
    return model.fit(case.train.x, case.train.labels).predict_proba(case.test.x)


def other(case: Case, **changes) -> Case:
    """The same parts in another case."""
    given = {"train": case.train, "test": case.test, "metric": case.metric} | changes
    return Case(given.pop("train"), given.pop("test"), **given)


def test_knn_equals_scikit_learn(pair, two):
    predicted, truth = neighbours(pair).argmax(1), pair.test.labels
    assert knn.protocol(pair).value == pytest.approx((predicted == truth).mean())
    balanced = knn.protocol(other(pair, metric="balanced_accuracy"))
    assert balanced.value == pytest.approx(balanced_accuracy_score(truth, predicted))
    expected = roc_auc_score(two.test.labels, neighbours(two)[:, 1])
    assert knn.protocol(two).value == pytest.approx(expected)


@pytest.mark.parametrize("rows", [400, 2400])  # all folds held out in turn, or one
def test_logistic_equals_scikit_learn_at_the_chosen_penalty(blobs, features_of, rows):
    train, test = features_of(*blobs(rows)), features_of(*blobs(300, seed=1))
    result = logistic.protocol(Case(train, test))
    (penalty,) = result.details["penalties"]
    scale = StandardScaler().fit(train.x)
    peer = LogisticRegression(C=1 / (len(train) * penalty), tol=1e-8, max_iter=5000)
    peer.fit(scale.transform(train.x), train.labels)
    assert result.value == pytest.approx(peer.score(scale.transform(test.x), test.labels), abs=1 / 300)
    assert 0 < logistic.PENALTIES.index(penalty) < len(logistic.PENALTIES) - 1


def test_the_penalty_is_that_with_the_lowest_loss_on_held_out_rows(blobs):
    x, y = blobs(150, d=40, spread=3)
    losses = []
    fold = torch.from_numpy(folds(y.numpy(), logistic.FOLDS, 0))
    for penalty in logistic.PENALTIES:
        total = 0.0
        for f in range(logistic.FOLDS):
            out = fold == f
            scale = StandardScaler().fit(x[~out])
            peer = LogisticRegression(C=1 / (int((~out).sum()) * penalty), tol=1e-8, max_iter=5000)
            peer.fit(scale.transform(x[~out]), y[~out])
            p = peer.predict_proba(scale.transform(x[out]))
            total -= np.log(p[np.arange(len(p)), y[out]]).sum()
        losses.append(total)
    chosen = logistic.choose(x.double(), y, 4, logistic.PENALTIES, 0)
    assert chosen == logistic.PENALTIES[int(np.argmin(losses))]


# ---- linear: many heads at once ----


def sgd_by_torch(x, y, queries, rate, decay, loss, start, steps, batch_size):
    """One head by torch.optim.SGD, as slowly as can be."""
    from tapetum.base import random

    mean, std = x.mean(0), x.std(0, correction=0)
    x, queries = (x - mean) / std, (queries - mean) / std
    head = torch.nn.Linear(x.shape[1], start.shape[0])
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    groups = [{"params": [head.weight], "weight_decay": decay}, {"params": [head.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=linear.MOMENTUM)
    for step in range(steps):
        epoch, at = divmod(step * batch_size, len(x) - len(x) % batch_size)
        rows = random.order(0, epoch, len(x))[at : at + batch_size]
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
        optimizer.zero_grad()
        loss(head(x[rows]) + start, y[rows]).backward()
        optimizer.step()
    return (head(queries) + start).detach()


F = torch.nn.functional
LOSSES = {
    "class": F.cross_entropy,
    "classes": lambda a, b: F.binary_cross_entropy_with_logits(a, b, reduction="sum") / len(a),
    "number": lambda a, b: F.mse_loss(a[:, 0], b) / 2,
}


@pytest.mark.parametrize("kind", LOSSES)
def test_each_head_of_the_linear_probe_is_plain_sgd(blobs, kind):
    (x, y), (queries, _) = blobs(90), blobs(40, seed=1)
    start = torch.zeros(4)
    if kind == "classes":
        y = F.one_hot(y, 4).float()
        y[:, 0] = 1
    elif kind == "number":
        y = y + x[:, 0]
        start = y.mean()[None]
    grid = [(0.003, 0.0), (0.1, 1e-2)]
    ours = linear.trained(x, y, queries, len(start), torch.tensor(grid), 1, 32, 0)
    for answers, (rate, decay) in zip(ours, grid):
        slow = sgd_by_torch(x, y, queries, rate, decay, LOSSES[kind], start, linear.LEAST, 32)
        torch.testing.assert_close(answers, slow, atol=2e-4, rtol=1e-3)


def test_the_linear_probe_takes_the_best_on_held_out_rows_and_is_as_good_as_logistic_regression(pair):
    result = linear.protocol(pair)
    ((rate, decay),) = result.details["rate and decay"]
    assert rate in linear.RATES and decay in linear.DECAYS
    assert result.value == pytest.approx(logistic.protocol(pair).value, abs=0.04)
    wild = linear.protocol(pair, rates=(0.01, 1e30))  # one of two heads explodes
    assert wild.details["rate and decay"][0][0] == 0.01
    assert wild.value == pytest.approx(result.value, abs=0.04)


# ---- labels of other kinds ----


@pytest.fixture
def many(blobs, features_of):
    """Rows with one or two of four classes."""

    def part(n, seed):
        x, y = blobs(n, seed=seed)
        names = [f"c{i};c{(i + 1) % 4}" if j % 3 == 0 else f"c{i}" for j, i in enumerate(y.tolist())]
        truth = np.array([[f"c{c}" in name.split(";") for c in range(4)] for name in names])
        return features_of(x, names), truth

    (train, y), (test, truth) = part(300, 0), part(120, 1)
    return Case(train, test, kind="classes"), y, truth


def test_several_classes_are_scored_by_mean_average_precision(many):
    case, y, truth = many
    model = KNeighborsRegressor(20, weights=weights, metric="cosine", algorithm="brute")
    scores = model.fit(case.train.x, y.astype(float)).predict(case.test.x)
    assert knn.protocol(case).value == pytest.approx(average_precision_score(truth, scores, average="macro"))
    result = logistic.protocol(case)
    scale = StandardScaler().fit(case.train.x)
    peer = OneVsRestClassifier(
        LogisticRegression(C=1 / (300 * result.details["penalties"][0]), tol=1e-8, max_iter=5000)
    )
    scores = peer.fit(scale.transform(case.train.x), y).decision_function(scale.transform(case.test.x))
    expected = average_precision_score(truth, scores, average="macro")
    assert result.value == pytest.approx(expected, abs=1e-3)
    assert linear.protocol(case).value == pytest.approx(expected, abs=0.03)
    assert result.protocol["kind"] == "classes" and result.protocol["metric"] == "mean_average_precision"


def test_numbers_are_predicted(blobs, features_of):
    def part(n, seed):
        x, y = blobs(n, seed=seed)
        return features_of(x, [f"{v:.4f}" for v in (3 * x[:, 0] - x[:, 1] + y).tolist()])

    case = Case(part(300, 0), part(120, 1), kind="number")
    y, truth = (np.array([float(n) for n in p.source.label_names()]) for p in (case.train, case.test))
    result = logistic.protocol(case)
    scale = StandardScaler().fit(case.train.x)
    peer = Ridge(alpha=300 * result.details["penalties"][0]).fit(scale.transform(case.train.x), y)
    assert result.value == pytest.approx(
        r2_score(truth, peer.predict(scale.transform(case.test.x))), abs=1e-5
    )
    assert result.value > 0.7
    assert linear.protocol(case).value == pytest.approx(result.value, abs=0.03)
    model = KNeighborsRegressor(20, weights=weights, metric="cosine", algorithm="brute")
    expected = r2_score(truth, model.fit(case.train.x, y).predict(case.test.x))
    assert knn.protocol(case).value == pytest.approx(expected, abs=1e-5)
    error = knn.protocol(other(case, kind="number", metric="mean_absolute_error"))
    assert error.value == pytest.approx(np.abs(model.predict(case.test.x) - truth).mean(), abs=1e-4)


def test_labels_of_another_kind_are_refused(pair, features_of, blobs):
    with pytest.raises(TapetumError, match=r"is 'c\d', not a number"):
        knn.protocol(other(pair, kind="number", metric=None))
    with pytest.raises(TapetumError, match="have none"):
        fewlabels.protocol(other(pair, kind="classes", metric=None))


# ---- what they share ----


@pytest.mark.parametrize("module", PROTOCOLS)
def test_test_images_choose_nothing(pair, module):
    """Neither what is chosen nor the standardisation may see the test part."""
    whole = module.protocol(pair)
    parts = []
    for rows in np.array_split(np.arange(120), 3):
        parts.append(module.protocol(other(pair, test=pair.test.take(rows))))
        assert parts[-1].details == whole.details
    assert sum(p.value * p.n for p in parts) == pytest.approx(whole.value * whole.n)


@pytest.mark.parametrize("module", (linear, logistic))
def test_constant_and_repeated_columns_do_no_harm(pair, blobs, features_of, module):
    (x, y), (q, truth) = blobs(300), blobs(120, seed=1)
    wide = [torch.cat([v, v, torch.full((len(v), 2), 7.0)], 1) for v in (x, q)]
    result = module.protocol(Case(features_of(wide[0], y), features_of(wide[1], truth)))
    assert result.value == pytest.approx(module.protocol(pair).value, abs=0.03)


def test_few_labels_are_a_mean_over_draws(pair):
    found = fewlabels.protocol(pair, counts=(3,), shares=(0.1,), draws=4, heads=("knn",))
    assert [r.name for r in found] == ["knn accuracy, 3 labels a class", "knn accuracy, 0.1 of the labels"]
    each = []
    for seed in range(4):
        chosen = few(pair.train.labels, 3, seed)
        assert np.bincount(pair.train.labels[chosen]).tolist() == [3, 3, 3, 3]
        each.append(knn.protocol(other(pair, train=pair.train.take(np.flatnonzero(chosen)))).value)
    result = found[0]
    assert len(set(each)) > 1
    assert result.value == pytest.approx(np.mean(each))
    assert result.seeds == [0, 1, 2, 3] and "draws" in result.error_kind
    assert result.error_bar > np.std(each, ddof=1) / 2
    one = fewlabels.protocol(pair, counts=(1,), shares=(), draws=2)  # nothing to hold out
    assert one[0].value > 0.3
    with pytest.raises(TapetumError, match="none can be left out"):
        fewlabels.protocol(pair, counts=(1000,), shares=())


def test_shares_of_the_labels_keep_the_classes_shares():
    labels = np.array([0] * 100 + [1] * 20 + [2] * 3 + [-1] * 5)
    chosen = few(labels, np.array([10, 2, 1]), 0)
    assert np.bincount(labels[chosen]).tolist() == [10, 2, 1] and not chosen[-5:].any()


def test_classes_are_joined_by_name(blobs, features_of):
    (x, y), (q, truth) = blobs(300), blobs(120, seed=1)
    train = features_of(x, y, ["ant", "bee", "cow", "dog"])
    test = features_of(q, truth, ["ant", "bee", "cow", "dog"])
    turned = features_of(q, 3 - truth, ["dog", "cow", "bee", "ant"])  # the same names in another order
    assert knn.protocol(Case(train, turned)).value == knn.protocol(Case(train, test)).value


def test_a_class_unknown_in_training_counts_as_wrong_and_is_said(blobs, features_of):
    (x, y), (q, truth) = blobs(300), blobs(120, seed=1)
    known, names = y != 2, ["ant", "bee", "cow", "dog"]
    train = features_of(x[known], y[known], names)
    result = knn.protocol(Case(train, features_of(q, truth, names)))
    seen = Case(train, features_of(q[truth != 2], truth[truth != 2], names))
    assert result.n == 120
    assert result.value == pytest.approx(knn.protocol(seen).value * float((truth != 2).double().mean()))
    assert f"{int((truth == 2).sum())} test images of classes without training images" in result.notes[0]
    assert "cow" in result.notes[0]


def test_unlabelled_and_damaged_images_are_left_out(blobs, features_of):
    (x, y), (q, truth) = blobs(300), blobs(120, seed=1)
    clean = knn.protocol(Case(features_of(x[20:], y[20:]), features_of(q[10:], truth[10:])))
    x[:10], y[10:20] = torch.nan, -1
    q[:10] = torch.nan
    damaged = {i: "truncated" for i in range(10)}
    result = knn.protocol(Case(features_of(x, y, damaged=damaged), features_of(q, truth, damaged=damaged)))
    assert (result.value, result.n) == (clean.value, 110)
    assert result.answers.rows.tolist() == list(range(10, 120))
    assert result.notes == [
        f"10 {part} images cannot be read and are left out" for part in ("training", "test")
    ]


def test_every_setting_is_another_protocol(pair):
    train, test = pair.train, pair.test
    first = knn.protocol(pair)
    assert knn.protocol(pair) == first
    changes = {
        "head.k": knn.protocol(pair, k=5),
        "head.temperature": knn.protocol(pair, temperature=0.1),
        "metric": knn.protocol(other(pair, metric="balanced_accuracy")),
        "split": knn.protocol(other(pair, split="another way")),
        "seeds": knn.protocol(other(pair, seed=1)),
        "test.data": knn.protocol(other(pair, test=test.take(np.arange(100)))),
        "train.data": knn.protocol(other(pair, train=train.take(np.arange(200)))),
        "name": logistic.protocol(pair),
    }
    for fact, result in changes.items():
        assert fact in differences(first.protocol, result.protocol)
        assert result.protocol_id != first.protocol_id, fact
        assert result.subject_id == first.subject_id
    slow, quick = (linear.protocol(pair, rates=(0.1,), decays=(0.0,), epochs=e) for e in (200, 300))
    assert "schedule.epochs" in differences(slow.protocol, quick.protocol)


def test_a_new_version_of_a_protocol_is_another_protocol(pair, monkeypatch):
    before = knn.protocol(pair)
    monkeypatch.setattr(knn, "VERSION", knn.VERSION + 1)
    assert knn.protocol(pair).protocol_id != before.protocol_id


def test_bad_input_is_one_sentence(pair, two, blobs, features_of):
    with pytest.raises(TapetumError, match="did you mean 'balanced_accuracy'"):
        other(pair, metric="balanced_acuracy")
    with pytest.raises(TapetumError, match="auroc needs the same 2 classes"):
        knn.protocol(other(pair, metric="auroc"))
    positive = two.test.take(np.flatnonzero(two.test.labels == 1))
    with pytest.raises(TapetumError, match="auroc needs the same 2 classes"):
        knn.protocol(other(two, test=positive))
    with pytest.raises(TapetumError, match="at least 2 classes"):
        knn.protocol(other(pair, train=pair.train.take(np.flatnonzero(pair.train.labels == 1))))
    x, y = blobs(20)
    with pytest.raises(TapetumError, match="no image with a label"):
        logistic.protocol(other(pair, test=features_of(x, torch.full_like(y, -1), ["a", "b"])))
    with pytest.raises(TapetumError, match="needs the encoder itself"):
        _ = pair.extractor


def test_protocols_find_themselves(tmp_path, monkeypatch):
    assert {"fewlabels", "knn", "linear", "logistic"} <= set(protocols.names())
    assert protocols.find("linear") is linear.protocol
    for name in protocols.names():
        assert protocols.idea(name).endswith((".", "?")) and len(protocols.idea(name)) > 20
        assert protocols.splits(name) in ("folds", "once", "none")
        assert isinstance(protocols.find(name).__globals__["VERSION"], int)
    with pytest.raises(TapetumError, match="did you mean 'linear'"):
        protocols.find("linaer")
    (tmp_path / "other.py").write_text("def protocol(case):\n    return None\n")
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(protocols, "HERE", tmp_path)
    assert protocols.names() == ["other"]


def test_parts_are_stratified_and_repeat():
    labels = np.array([0] * 50 + [1] * 10 + [2] * 3 + [3])
    out = held_out(labels, 0.2, 0)
    assert np.bincount(labels[out], minlength=4).tolist() == [10, 2, 1, 0]
    assert (out == held_out(labels, 0.2, 0)).all() and (out != held_out(labels, 0.2, 1)).any()
    fold = folds(labels, 5, 0)
    assert fold[-1] == -1, "a class of one image is never held out"
    for label, least, most in ((0, 10, 10), (1, 2, 2), (2, 0, 1)):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert (counts.min(), counts.max()) == (least, most)
    assert np.bincount(labels[few(labels, 4, 0)]).tolist() == [4, 4, 3, 1]


def test_groups_are_never_parted_and_classes_still_spread():
    g = np.random.default_rng(0)
    groups = g.integers(0, 60, 600)
    labels = (groups % 3 + (g.random(600) < 0.1)) % 4
    groups[:7], labels[:7] = 77, 9  # a class that lies in one group alone
    fold = grouped_folds(labels, groups, 5, 0)
    assert (fold[:7] == -1).all() and (fold[7:] >= 0).all()
    for group in range(60):
        assert len(set(fold[groups == group])) <= 1
    table = np.array([np.bincount(fold[labels == label], minlength=5) for label in range(3)])
    assert (np.abs(table - table.mean(1, keepdims=True)) <= 0.35 * table.mean(1, keepdims=True)).all()
    assert (fold != grouped_folds(labels, groups, 5, 1)).any()
    assert (
        grouped_folds(labels, np.arange(600), 5, 0) == folds(np.unique(labels, return_inverse=True)[1], 5, 0)
    ).all()


def test_the_protocol_of_the_contributing_page_works(pair):
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    (code,) = (part for part in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "nearest_mean" in part)
    written: dict = {}
    exec(code, written)
    peer = NearestCentroid().fit(normalised(pair.train.x - pair.train.x.mean(0)), pair.train.labels)
    means = normalised(peer.centroids_)
    said = (normalised(pair.test.x - pair.train.x.mean(0)) @ means.T).argmax(1)
    assert written["protocol"](pair).value == pytest.approx((said == pair.test.labels).mean())


def normalised(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)
