"""Support vector machines as a protocol, against scikit-learn's LinearSVC on features of length 1."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from tapetum.base.errors import TapetumError
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import svm
from tapetum.evaluate.result import differences
from tapetum.evaluate.split import folds


def peer(cost):
    return LinearSVC(C=cost, tol=1e-10, max_iter=100_000, dual=False)


def test_equals_scikit_learn_at_the_chosen_cost(pair):
    result = svm.protocol(pair)
    (cost,) = result.details["costs"]
    x, queries = normalize(pair.train.x), normalize(pair.test.x)
    model = peer(cost).fit(x, pair.train.labels)
    assert result.value == pytest.approx(model.score(queries, pair.test.labels))
    assert (result.answers.answers[0] == model.predict(queries)).all()


def test_the_cost_is_that_with_the_best_held_out_accuracy(blobs, features_of):
    x, y = blobs(400, d=30, spread=3.0)
    part = features_of(x, y)
    out = folds(y.numpy(), svm.FOLDS, 0) == 0
    unit = normalize(part.x)
    scores = [peer(c).fit(unit[~out], y[~out]).score(unit[out], y[out]) for c in svm.COSTS]
    fall = next((i for i in range(1, len(scores)) if scores[i] < max(scores[:i])), len(scores))
    assert len(set(scores)) > 2
    chosen = svm.protocol(Case(part, features_of(*blobs(50, d=30, seed=1)))).details["costs"]
    assert chosen == [svm.COSTS[int(np.argmax(scores[:fall]))]]


def test_several_classes_an_image(features_of):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 8, generator=g)
    member = x[:, :3] + torch.randn(300, 3, generator=g) > 0.3
    member[~member.any(1), 0] = True
    names = [";".join("abc"[c] for c in range(3) if row[c]) for row in member.tolist()]
    train, test = features_of(x[:200], names[:200]), features_of(x[200:], names[200:])
    result = svm.protocol(Case(train, test, kind="classes"), costs=(1.0,))
    model = OneVsRestClassifier(peer(1.0)).fit(normalize(x[:200]), member[:200])
    scores = model.decision_function(normalize(x[200:]))
    assert result.value == pytest.approx(average_precision_score(member[200:], scores), abs=1e-6)
    assert svm.protocol(Case(train, test, kind="classes")).details["costs"][0] in svm.COSTS


def test_settings_and_bad_input(pair, blobs, features_of):
    first, other = svm.protocol(pair), svm.protocol(pair, costs=(1.0, 0.1))
    assert differences(first.protocol, other.protocol) == ["head.costs"]
    assert other.protocol["head"]["costs"] == [0.1, 1.0]
    part = features_of(blobs(40)[0], [str(i / 7) for i in range(40)])
    with pytest.raises(TapetumError, match="svm separates classes"):
        svm.protocol(Case(part, part, kind="number"))
