"""Neighbours and regression together: the sum of both, with a share that test images do not choose."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import joint


def scikit_learn(case: Case, share: float, penalty: float, weights=None) -> np.ndarray:
    model = KNeighborsClassifier(
        20, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute"
    ).fit(case.train.x, case.train.labels)
    scale = StandardScaler().fit(case.train.x)
    peer = LogisticRegression(C=1 / (len(case.train) * penalty), tol=1e-9, max_iter=9999)
    peer.fit(scale.transform(case.train.x), case.train.labels, weights)
    far = peer.predict_proba(scale.transform(case.test.x))
    return share * model.predict_proba(case.test.x) + (1 - share) * far


def test_it_is_the_sum_of_scikit_learns(pair):
    result = joint.protocol(pair)
    said = scikit_learn(pair, result.details["share of neighbours"], result.details["penalty"])
    assert result.value == pytest.approx((said.argmax(1) == pair.test.labels).mean(), abs=1 / 120)
    assert 0 <= result.details["share of neighbours"] <= 1


def test_the_share_is_that_with_the_lowest_cross_entropy():
    g = torch.Generator().manual_seed(0)
    y = torch.randint(3, (200,), generator=g)
    good = torch.nn.functional.one_hot(y, 3) * 0.9 + 0.1 / 3
    bad = torch.rand(200, 3, generator=g).softmax(1)
    assert joint.chosen(good, bad, y) == 1 and joint.chosen(bad, good, y) == 0
    first, second = good.clone(), good.clone()
    first[::2], second[1::2] = bad[::2], bad[1::2]  # each is right where the other is not
    assert 0.3 < joint.chosen(first, second, y) < 0.7


def test_neighbours_help_where_classes_have_no_line_between_them(features_of):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 3, generator=g)
    y = (x.prod(1) > 0).long()
    case = Case(features_of(x[:300], y[:300]), features_of(x[300:], y[300:]))
    result = joint.protocol(case)
    assert result.details["share of neighbours"] > 0.5 and result.value > 0.8


def test_hard_images_count_more(pair):
    plain, hard = joint.protocol(pair), joint.protocol(pair, hard=5.0)
    assert plain.protocol_id != hard.protocol_id
    assert (plain.answers.answers != hard.answers.answers).any()


def test_images_of_strange_classes_are_left_out(blobs, features_of):
    (x, y), (q, truth) = blobs(300), blobs(120, seed=1)
    names = ["ant", "bee", "cow", "dog"]
    case = Case(features_of(x[y != 2], y[y != 2], names), features_of(q, truth, names))
    result = joint.protocol(case)
    assert result.n == int((truth != 2).sum()) and "are left out" in result.notes[-1]
