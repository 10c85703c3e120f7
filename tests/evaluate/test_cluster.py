"""Clustering against scikit-learn and scipy on stored features."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, confusion_matrix, normalized_mutual_info_score
from torch.nn import functional as F

from tapetum.base.errors import TapetumError
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import cluster
from tapetum.evaluate.result import differences
from tapetum.measure.clustering import kmeans


@pytest.fixture
def apart(blobs, features_of):
    """Classes that k-means finds from any seed, but not without errors."""
    return Case(features_of(*blobs(50)), features_of(*blobs(400, seed=1, spread=1.0)))


def test_equals_scikit_learn(apart):
    accuracy, nmi, ari = cluster.protocol(apart)
    x, y = F.normalize(torch.from_numpy(apart.test.x), dim=1).numpy(), apart.test.labels
    found = KMeans(4, n_init=20, random_state=0).fit_predict(x)
    table = confusion_matrix(y, found)
    assert accuracy.value == pytest.approx(table[linear_sum_assignment(-table)].sum() / 400, abs=0.01)
    assert nmi.value == pytest.approx(normalized_mutual_info_score(y, found), abs=0.02)
    assert ari.value == pytest.approx(adjusted_rand_score(y, found), abs=0.02)
    assert 0.7 < accuracy.value < 1
    assert [r.name for r in (accuracy, nmi, ari)] == ["cluster accuracy", "cluster NMI", "cluster ARI"]


def test_the_value_is_a_mean_over_draws_of_kmeans(blobs, features_of):
    x, y = blobs(200, spread=3.0)
    case = Case(features_of(*blobs(50)), features_of(x, y), seed=3)
    results = cluster.protocol(case, draws=4, restarts=1, clusters=9, normalise=False)
    found = [kmeans(x, 9, seed=seed, restarts=1)[1].numpy() for seed in (3, 4, 5, 6)]
    each = np.array([normalized_mutual_info_score(y, c) for c in found])
    assert results[1].value == pytest.approx(each.mean())
    assert results[2].value == pytest.approx(np.mean([adjusted_rand_score(y, c) for c in found]))
    assert results[1].error_bar > each.std(ddof=1) / 2 > 0
    assert all(r.seeds == [3, 4, 5, 6] and r.n == 200 for r in results)
    assert results[0].answers.answers.shape == (4, 200)
    assert (results[0].answers.answers == -1).any(), "five of nine clusters have no class"


def test_training_images_are_not_looked_at(apart, blobs, features_of):
    other = Case(features_of(*blobs(70, seed=8, classes=2)), apart.test)
    assert [r.value for r in cluster.protocol(other)] == [r.value for r in cluster.protocol(apart)]


def test_images_without_a_label_are_left_out(blobs, features_of):
    x, y = blobs(200, spread=1.0)
    whole = cluster.protocol(Case(features_of(x[20:], y[20:]), features_of(x[20:], y[20:]), alone=True))
    y[:10], x[10:20] = -1, torch.nan
    part = features_of(x, y, damaged={i: "truncated" for i in range(10, 20)})
    results = cluster.protocol(Case(part, part, alone=True))
    assert [(r.value, r.n) for r in results] == [(r.value, 180) for r in whole]
    assert results[0].notes == ["10 test images cannot be read and are left out"]
    assert results[0].answers.rows.tolist() == list(range(20, 200))


def test_every_setting_is_another_protocol(apart):
    first = cluster.protocol(apart)
    for setting, name in (
        (("clusters", 5), "clusters"),
        (("restarts", 2), "restarts"),
        (("normalise", False), "normalised"),
    ):
        for a, b in zip(first, cluster.protocol(apart, **dict([setting]))):
            assert differences(a.protocol, b.protocol) == [f"head.{name}"]
    assert len({r.protocol_id for r in first}) == 3
    assert [r.value for r in cluster.protocol(apart)] == [r.value for r in first]


def test_bad_input_is_one_sentence(apart, features_of, blobs):
    with pytest.raises(TapetumError, match="400 images for 401 clusters"):
        cluster.protocol(apart, clusters=401)
    part = features_of(blobs(40)[0], [str(i / 7) for i in range(40)])
    with pytest.raises(TapetumError, match="one class an image"):
        cluster.protocol(Case(part, part, kind="number"))
