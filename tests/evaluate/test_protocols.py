"""The protocols against scikit-learn on stored features, and what they share: few labels, metrics."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from tapetum.base.errors import TapetumError
from tapetum.evaluate import knn, linear, protocols
from tapetum.evaluate.result import differences
from tapetum.evaluate.split import few, folds, held_out


def neighbours(train, test, k=20, temperature=0.07):
    """scikit-learn's share of votes for each class."""
    model = KNeighborsClassifier(
        k, weights=lambda d: np.exp((1 - d) / temperature), metric="cosine", algorithm="brute"
    )
    return model.fit(train.x, train.labels).predict_proba(test.x)


@pytest.fixture
def pair(blobs, features_of):
    return features_of(*blobs(300)), features_of(*blobs(120, seed=1))


@pytest.fixture
def two(blobs, features_of):
    return features_of(*blobs(200, classes=2, spread=3)), features_of(*blobs(90, classes=2, seed=1, spread=3))


def test_knn_equals_scikit_learn(pair, two):
    train, test = pair
    predicted = neighbours(train, test).argmax(1)
    assert knn.protocol(train, test).value == pytest.approx((predicted == test.labels).mean())
    balanced = knn.protocol(train, test, metric="balanced_accuracy")
    assert balanced.value == pytest.approx(balanced_accuracy_score(test.labels, predicted))
    train, test = two
    expected = roc_auc_score(test.labels, neighbours(train, test)[:, 1])
    assert knn.protocol(train, test, metric="auroc").value == pytest.approx(expected)


@pytest.mark.parametrize("rows", [400, 2400])  # all folds held out in turn, or one
def test_linear_equals_scikit_learn_at_the_chosen_penalty(blobs, features_of, rows):
    train, test = features_of(*blobs(rows)), features_of(*blobs(300, seed=1))
    result = linear.protocol(train, test)
    (penalty,) = result.details["penalties"]
    scale = StandardScaler().fit(train.x)
    peer = LogisticRegression(C=1 / (len(train) * penalty), tol=1e-8, max_iter=5000)
    peer.fit(scale.transform(train.x), train.labels)
    assert result.value == pytest.approx(peer.score(scale.transform(test.x), test.labels), abs=1 / 300)
    assert 0 < linear.PENALTIES.index(penalty) < len(linear.PENALTIES) - 1


def test_the_penalty_is_that_with_the_lowest_loss_on_held_out_rows(blobs):
    x, y = blobs(150, d=40, spread=3)
    losses = []
    fold = torch.from_numpy(folds(y.numpy(), linear.FOLDS, 0))
    for penalty in linear.PENALTIES:
        total = 0.0
        for f in range(linear.FOLDS):
            out = fold == f
            scale = StandardScaler().fit(x[~out])
            peer = LogisticRegression(C=1 / (int((~out).sum()) * penalty), tol=1e-8, max_iter=5000)
            peer.fit(scale.transform(x[~out]), y[~out])
            p = peer.predict_proba(scale.transform(x[out]))
            total -= np.log(p[np.arange(len(p)), y[out]]).sum()
        losses.append(total)
    chosen = linear.choose(x.double(), y, 4, linear.PENALTIES, 0)
    assert chosen == linear.PENALTIES[int(np.argmin(losses))]


def test_test_images_choose_nothing(pair):
    """Neither the penalty nor the standardisation may see the test part."""
    train, test = pair
    whole = linear.protocol(train, test)
    for rows in np.array_split(np.arange(len(test)), 3):
        assert linear.protocol(train, test.take(rows)).details == whole.details
    parts = [linear.protocol(train, test.take(rows)) for rows in np.array_split(np.arange(len(test)), 3)]
    assert sum(p.value * p.n for p in parts) == pytest.approx(whole.value * whole.n)


def test_constant_and_repeated_columns_do_no_harm(pair, blobs, features_of):
    (x, y), (q, truth) = blobs(300), blobs(120, seed=1)
    wide = [torch.cat([v, v, torch.full((len(v), 2), 7.0)], 1) for v in (x, q)]
    result = linear.protocol(features_of(wide[0], y), features_of(wide[1], truth))
    assert result.value == pytest.approx(linear.protocol(*pair).value, abs=0.03)


def test_few_labels_are_a_mean_over_draws(pair):
    train, test = pair
    result = knn.protocol(train, test, labels_per_class=3, draws=4, seed=7)
    each = []
    for seed in (7, 8, 9, 10):
        chosen = few(train.labels, 3, seed)
        assert np.bincount(train.labels[chosen]).tolist() == [3, 3, 3, 3]
        each.append(knn.protocol(train.take(np.flatnonzero(chosen)), test).value)
    assert len(set(each)) > 1
    assert result.value == pytest.approx(np.mean(each))
    assert result.seeds == [7, 8, 9, 10] and "draws" in result.error_kind
    assert result.error_bar > np.std(each, ddof=1) / 2
    one = linear.protocol(train, test, labels_per_class=1, draws=2)  # nothing to hold out
    assert one.details["penalties"] == [100.0, 100.0] and one.value > 0.3


def test_the_error_bar_of_an_accuracy_is_binomial(pair):
    result = knn.protocol(*pair)
    assert result.error_bar == pytest.approx((result.value * (1 - result.value) / result.n) ** 0.5, rel=0.2)


def test_classes_are_joined_by_name(blobs, features_of):
    (x, y), (q, truth) = blobs(300), blobs(120, seed=1)
    train = features_of(x, y, ["ant", "bee", "cow", "dog"])
    test = features_of(q, truth, ["ant", "bee", "cow", "dog"])
    other = features_of(q, 3 - truth, ["dog", "cow", "bee", "ant"])  # the same names in another order
    assert knn.protocol(train, other).value == knn.protocol(train, test).value


def test_a_class_unknown_in_training_counts_as_wrong_and_is_said(blobs, features_of):
    (x, y), (q, truth) = blobs(300), blobs(120, seed=1)
    known = y != 2
    train = features_of(x[known], y[known], ["ant", "bee", "cow", "dog"])
    result = knn.protocol(train, features_of(q, truth, ["ant", "bee", "cow", "dog"]))
    seen = features_of(q[truth != 2], truth[truth != 2], ["ant", "bee", "cow", "dog"])
    assert result.n == 120
    assert result.value == pytest.approx(
        knn.protocol(train, seen).value * float((truth != 2).double().mean())
    )
    assert f"{int((truth == 2).sum())} test images of classes without training images" in result.notes[0]
    assert "cow" in result.notes[0]


def test_unlabelled_and_damaged_images_are_left_out(blobs, features_of):
    (x, y), (q, truth) = blobs(300), blobs(120, seed=1)
    clean = knn.protocol(features_of(x[20:], y[20:]), features_of(q[10:], truth[10:]))
    x[:10], y[10:20] = torch.nan, -1
    q[:10] = torch.nan
    damaged = {i: "truncated" for i in range(10)}
    result = knn.protocol(features_of(x, y, damaged=damaged), features_of(q, truth, damaged=damaged))
    assert (result.value, result.n) == (clean.value, 110)
    assert result.notes == [
        f"10 {part} images cannot be read and are left out" for part in ("training", "test")
    ]


def test_every_setting_is_another_protocol(pair):
    train, test = pair
    first = knn.protocol(train, test)
    assert knn.protocol(train, test) == first
    changes = {
        "head.k": knn.protocol(train, test, k=5),
        "head.temperature": knn.protocol(train, test, temperature=0.1),
        "metric": knn.protocol(train, test, metric="balanced_accuracy"),
        "split": knn.protocol(train, test, split="another way"),
        "seeds": knn.protocol(train, test, seed=1),
        "labels_per_class": knn.protocol(train, test, labels_per_class=1000, draws=1),
        "test.data": knn.protocol(train, test.take(np.arange(100))),
        "train.data": knn.protocol(train.take(np.arange(200)), test),
        "name": linear.protocol(train, test),
    }
    for fact, other in changes.items():
        assert fact in differences(first.protocol, other.protocol)
        assert other.protocol_id != first.protocol_id, fact
        assert other.subject_id == first.subject_id


def test_a_new_version_of_a_protocol_is_another_protocol(pair, monkeypatch):
    before = knn.protocol(*pair)
    monkeypatch.setattr(knn, "VERSION", knn.VERSION + 1)
    assert knn.protocol(*pair).protocol_id != before.protocol_id


def test_bad_input_is_one_sentence(pair, two, blobs, features_of):
    train, test = pair
    with pytest.raises(TapetumError, match="did you mean 'balanced_accuracy'"):
        knn.protocol(train, test, metric="balanced_acuracy")
    with pytest.raises(TapetumError, match="auroc needs the same 2 classes"):
        knn.protocol(train, test, metric="auroc")
    with pytest.raises(TapetumError, match="auroc needs the same 2 classes"):
        knn.protocol(two[0], two[1].take(np.flatnonzero(two[1].labels == 1)), metric="auroc")
    with pytest.raises(TapetumError, match="at least 2 classes"):
        knn.protocol(train.take(np.flatnonzero(train.labels == 1)), test)
    x, y = blobs(20)
    with pytest.raises(TapetumError, match="no image with a label"):
        linear.protocol(train, features_of(x, torch.full_like(y, -1), ["a", "b"]))


def test_protocols_find_themselves(tmp_path, monkeypatch):
    assert protocols.names() == ["knn", "linear"]
    assert protocols.find("linear") is linear.protocol
    with pytest.raises(TapetumError, match="did you mean 'linear'"):
        protocols.find("linaer")
    (tmp_path / "retrieve.py").write_text("def protocol(train, test):\n    return None\n")
    (tmp_path / "helper.py").write_text("def other():\n    return None\n")
    monkeypatch.setattr(protocols, "HERE", tmp_path)
    assert protocols.names() == ["retrieve"]


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
