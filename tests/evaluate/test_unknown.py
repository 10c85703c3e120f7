"""The protocol for unknown images against pytorch-ood and scikit-learn; where the images come from."""

import numpy as np
import pytest
import torch
from pytorch_ood import detector
from pytorch_ood.metrics import OODMetrics
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.evaluate import crossval, protocols
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import subset, unknown
from tapetum.features import Extractor


@pytest.fixture
def case(blobs, features_of):
    """Ten classes, of which two are to be kept from training."""
    return Case(
        features_of(*blobs(500, classes=10)), features_of(*blobs(240, classes=10, seed=1, spread=1.0))
    )


def by_name(results):
    return {r.name: r for r in results}


def parted(case, kept):
    """Training and test rows as the protocol should part them; unknown labels are -1, as in pytorch-ood."""
    names = np.array(case.train.classes)
    away = np.isin(names, kept)
    left = ~away[case.train.labels]
    number = np.cumsum(~away) - 1
    labels = np.where(away[case.test.labels], -1, number[case.test.labels])
    x, y = case.train.x[left], number[case.train.labels[left]]
    return torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(case.test.x), torch.from_numpy(labels)


def test_classes_kept_from_training_are_the_unknown_ones(case):
    found = by_name(unknown.protocol(case, k=10))
    auroc = found["AUROC of knn"]
    kept = auroc.protocol["head"]["kept_from_training"]
    x, y, queries, labels = parted(case, kept)
    assert len(kept) == 2 and len(y.unique()) == 8
    for name, peer in (
        ("knn", detector.KNN(None, k=10).fit_features(x, y)),
        ("mahalanobis", detector.Mahalanobis(None).fit_features(x, y)),
        ("relative mahalanobis", detector.RMD(None).fit_features(x, y)),
    ):
        expected = OODMetrics().update(peer.predict_features(queries), labels).compute()
        result = found[f"AUROC of {name}"]
        assert result.value == pytest.approx(expected["AUROC"], abs=1e-3)
        assert result.details["unknown_positive"]["fpr95"] == pytest.approx(expected["FPR95TPR"], abs=0.02)
        for side, sign in (("unknown_positive", 1), ("known_positive", -1)):
            positive = (labels < 0) if sign > 0 else (labels >= 0)
            aupr = average_precision_score(positive, sign * peer.predict_features(queries))
            assert result.details[side]["average_precision"] == pytest.approx(aupr, abs=1e-3)
    assert found["FPR95 of knn"].value == auroc.details["unknown_positive"]["fpr95"]
    assert found["AUPR of knn"].value == auroc.details["unknown_positive"]["average_precision"]
    assert auroc.n == 240 and f"{int((labels < 0).sum())} test images" in auroc.notes[0]
    assert auroc.value > 0.7


def test_scores_of_logits_come_from_the_logistic_regression(case):
    found = by_name(unknown.protocol(case, scores=("energy", "max_logit", "vim")))
    head = found["AUROC of energy"].protocol["head"]
    x, y, queries, labels = parted(case, head["kept_from_training"])
    scale = StandardScaler().fit(x)
    for penalty in (1.0, 0.1, 1e-2, 1e-3, 1e-4):
        peer = LogisticRegression(C=1 / (len(x) * penalty), tol=1e-8, max_iter=5000)
        peer.fit(scale.transform(x), y)
        logits = torch.from_numpy(peer.decision_function(scale.transform(queries)))
        expected = OODMetrics().update(detector.MaxLogit.score(logits), labels).compute()["AUROC"]
        if found["AUROC of max logit"].value == pytest.approx(expected, abs=1e-3):
            break
    else:
        pytest.fail("no penalty gives the protocol's number")
    assert len(found) == 3


def test_the_draw_of_classes_follows_the_seed_and_the_share(case):
    def kept(**settings):
        seed = settings.pop("seed", 0)
        other = Case(case.train, case.test, seed=seed)
        (result,) = unknown.protocol(other, scores=("cosine",), **settings)
        return result.protocol["head"]["kept_from_training"], result.protocol_id

    assert kept() == kept()
    assert len({tuple(kept(seed=seed)[0]) for seed in range(6)}) > 2
    assert len(kept(classes=0.5)[0]) == 5 and kept(classes=0.5)[1] != kept()[1]


def test_test_images_of_other_classes_are_unknown_where_none_is_kept(blobs, features_of):
    x, y = blobs(300, classes=5)
    q, z = blobs(150, classes=5, seed=1)
    case = Case(features_of(x[y < 4], y[y < 4]), features_of(q, z))
    (result,) = unknown.protocol(case, classes=0, scores=("knn",), beside=())
    assert result.n == 150 and f"{int((z == 4).sum())} test images" in result.notes[0]
    truth = result.answers.truth
    assert (truth == (z == 4).numpy()).all()
    (kept,) = unknown.protocol(case, scores=("knn",), beside=())
    assert kept.n == int((z < 4).sum()) and any("left out" in note for note in kept.notes)


def test_folds_keep_the_same_classes_and_give_one_number(case):
    plan = crossval.plan(case.train, "class", 0, None, "", 2)
    found = [
        (repeat, fold, rows, unknown.protocol(part, scores=("cosine", "mahalanobis"), beside=("cosine",)))
        for repeat, fold, rows, part in crossval.cases(case.train, plan, None, False)
    ]
    results = crossval.joined(found)
    assert [r.name for r in results] == [
        "AUROC of cosine",
        "AUROC of mahalanobis",
        "AUPR of cosine",
        "FPR95 of cosine",
    ]
    assert results[0].n == 500 and 0.6 < results[0].value < 1


def test_unknown_images_of_another_set(images, encoder, write_images, tmp_path):
    other = write_images(tmp_path / "other", 4, seed=7, classes=("red",))
    (tmp_path / "other" / "red" / "broken.png").write_bytes(b"no image")
    extractor = Extractor(encoder)
    source = open_data(images)
    case = Case(source, source, extractor)
    auroc, aupr, fpr = unknown.protocol(case, data=str(other), scores=("max_softmax",))
    assert auroc.n == 28 and auroc.answers is None
    assert any("4 images of other" in note for note in auroc.notes)
    assert any("1 unknown images cannot be read" in note for note in auroc.notes)
    assert auroc.interval[0] <= auroc.value <= auroc.interval[1] and auroc.error_bar > 0
    assert aupr.name == "AUPR of max softmax" and fpr.name == "FPR95 of max softmax"
    assert auroc.protocol["head"]["unknown"]["images"] == 5
    with pytest.raises(TapetumError, match="needs the encoder itself"):
        unknown.protocol(Case(case.train, case.test), data=str(other))


def test_the_protocols_name_hides_no_error():
    with pytest.raises(TapetumError, match="did you mean 'unknown'"):
        protocols.find("unknwon")


def test_what_cannot_be_asked_is_said(two, pair, features_of, blobs):
    with pytest.raises(TapetumError, match="keeps 1 of 2 classes from training and needs 2 more"):
        unknown.protocol(two)
    with pytest.raises(TapetumError, match="all test images are of classes that training has"):
        unknown.protocol(pair, classes=0)
    numbers = [str(float(i)) for i in range(40)]
    case = Case(
        features_of(torch.randn(40, 3), numbers), features_of(torch.rand(40, 3), numbers), kind="number"
    )
    with pytest.raises(TapetumError, match="unknown needs one class an image"):
        unknown.protocol(case)


def test_a_subset_of_the_classes_is_judged_among_these(blobs, features_of):
    x, y = blobs(600, classes=6, spread=2.5)
    q, z = blobs(300, classes=6, seed=1, spread=2.5)
    few = (z == 1) | (z == 4)
    case = Case(features_of(x, y), features_of(q[few], z[few], [f"c{i}" for i in range(6)]))
    some, error, every = subset.protocol(case)
    scale = StandardScaler().fit(x)
    peer = LogisticRegression(C=1 / (len(x) * some.details["penalty"]), tol=1e-8, max_iter=5000)
    logits = peer.fit(scale.transform(x), y).decision_function(scale.transform(q[few]))
    right = np.array([1, 4])[logits[:, [1, 4]].argmax(1)] == z[few].numpy()
    assert some.value == pytest.approx(right.mean(), abs=1 / len(right))
    assert every.value == pytest.approx((logits.argmax(1) == z[few].numpy()).mean(), abs=1 / len(right))
    assert some.value > every.value and some.name == "accuracy among 2 classes" and 0 < error.value < 1
    assert some.details["classes"] == ["c1", "c4"] and "2 of the 6 classes" in some.notes[0]
    alone = Case(case.train, features_of(q[z == 1], z[z == 1], [f"c{i}" for i in range(6)]))
    with pytest.raises(TapetumError, match="at least 2 classes; there is c1"):
        subset.protocol(alone)
