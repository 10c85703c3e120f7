"""Episodes are drawn as they should be, and their classifiers equal scikit-learn's, one episode at a time."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from tapetum.measure import fewshot


def test_episodes_take_different_images_of_different_classes():
    labels = torch.tensor([-1] * 5 + [0] * 10 + [1] * 3 + [2] * 4 + [3] * 30)[torch.randperm(52)]
    found = fewshot.episodes(labels, ways=3, images=4, count=200)
    assert found.shape == (200, 3, 4)
    of = labels[found]
    assert bool((of == of[..., :1]).all()) and set(of.unique().tolist()) == {0, 2, 3}
    for rows, classes in zip(found, of[..., 0]):
        assert len(rows.unique()) == 12 and len(classes.unique()) == 3


def test_every_class_and_image_is_drawn_equally_often():
    labels = torch.arange(400) % 8
    found = fewshot.episodes(labels, ways=2, images=5, count=2000)
    often = np.bincount(labels[found[..., 0]].flatten(), minlength=8)
    assert often.min() > 400 and often.max() < 600  # 500 expected, standard deviation 19
    each = np.bincount(found.flatten(), minlength=400)
    assert each.min() > 20 and each.max() < 85  # 50 expected
    places = labels[found[:, 0, 0]].bincount(minlength=8)
    assert places.min() > 180, "the first class is any"


def test_episodes_are_a_function_of_seed_and_number(monkeypatch):
    labels = torch.arange(200) % 10
    first = fewshot.episodes(labels, 5, 8, 50, seed=3)
    assert torch.equal(first, fewshot.episodes(labels, 5, 8, 80, seed=3)[:50])
    assert not torch.equal(first, fewshot.episodes(labels, 5, 8, 50, seed=4))
    monkeypatch.setattr(fewshot, "_CELLS", 700)
    assert torch.equal(first, fewshot.episodes(labels, 5, 8, 50, seed=3))
    with pytest.raises(ValueError, match="10 classes have 20 images, 11 are wanted"):
        fewshot.episodes(labels, 11, 20, 5)


@pytest.fixture(params=[(5, 1, 30), (5, 5, 30), (3, 10, 8)])  # fewer images than columns, and more
def data(request):
    ways, shots, d = request.param
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(12, ways, 1, d, generator=g)
    x = centres + torch.randn(12, ways, shots + 15, d, generator=g)
    x = torch.nn.functional.normalize(x, dim=3)
    return x[:, :, :shots], x[:, :, shots:].flatten(1, 2), np.repeat(np.arange(ways), shots)


@pytest.mark.filterwarnings("ignore:invalid value")  # of variances, where a class has one image
def test_nearest_means_equal_scikit_learn(data):
    support, queries, y = data
    for x, q, ours in zip(support, queries, fewshot.nearest_mean(support, queries)):
        assert ours.tolist() == NearestCentroid().fit(x.flatten(0, 1), y).predict(q).tolist()


@pytest.mark.parametrize("cost", [1.0, 30.0])
def test_logistic_regression_equals_scikit_learn(data, cost):
    support, queries, y = data
    wrong = 0
    for x, q, ours in zip(support, queries, fewshot.logistic(support, queries, cost)):
        peer = LogisticRegression(C=cost, tol=1e-8, max_iter=10000).fit(x.flatten(0, 1), y)
        wrong += int((ours.numpy() != peer.predict(q)).sum())
    assert wrong == 0


def test_an_episode_does_not_depend_on_the_others(data):
    support, queries, _ = data
    whole = fewshot.logistic(support, queries)
    assert torch.equal(whole[3:5], fewshot.logistic(support[3:5], queries[3:5]))
