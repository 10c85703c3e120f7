"""Few-shot episodes against an episode-by-episode writing, and what they know of the training images."""

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid

from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.encoders import Encoder
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import episodes
from tapetum.evaluate.result import differences
from tapetum.features import Extractor
from tapetum.measure import fewshot


@pytest.fixture
def case(blobs, features_of):
    return Case(features_of(*blobs(300)), features_of(*blobs(160, seed=1)))


def one_by_one(case, head, ways, shots, queries, count, centre=True):
    """Accuracies by scikit-learn, on the same draws."""
    x = case.test.x - (case.train.x.mean(0) if centre else 0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = []
    for rows in fewshot.episodes(torch.from_numpy(case.test.labels), ways, shots + queries, count).numpy():
        y = case.test.labels[rows]
        model = head.fit(x[rows[:, :shots].ravel()], y[:, :shots].ravel())
        found.append(model.score(x[rows[:, shots:].ravel()], y[:, shots:].ravel()))
    return np.array(found)


@pytest.mark.filterwarnings("ignore:invalid value")  # of variances, where a class has one image
@pytest.mark.parametrize("centre", [True, False])
def test_nearest_means_equal_scikit_learn(case, centre):
    one, five = episodes.protocol(case, ways=3, episodes=60, centre=centre)
    for result, shots in ((one, 1), (five, 5)):
        each = one_by_one(case, NearestCentroid(), 3, shots, 15, 60, centre)
        assert result.value == pytest.approx(each.mean())
        assert result.error_bar == pytest.approx(each.std(ddof=1) / 60**0.5)
        low, high = student.interval(0.95, 59, each.mean(), each.std(ddof=1) / 60**0.5)
        assert result.interval == pytest.approx((low, high), abs=0.003)
    assert one.value < five.value
    assert (one.name, one.n) == ("3-way 1-shot accuracy", 60)


def test_logistic_regression_equals_scikit_learn(case):
    (result,) = episodes.protocol(case, ways=4, shots=(3,), queries=7, episodes=40, head="logistic", cost=2.0)
    peer = LogisticRegression(C=2.0, tol=1e-8, max_iter=10000)
    assert result.value == pytest.approx(one_by_one(case, peer, 4, 3, 7, 40).mean())


def test_portions_are_the_same(case, monkeypatch):
    whole = [r.value for r in episodes.protocol(case, ways=3, episodes=50)]
    monkeypatch.setattr(episodes, "_CELLS", 5000)
    assert [r.value for r in episodes.protocol(case, ways=3, episodes=50)] == whole


def test_images_that_cannot_be_read_are_in_no_episode(blobs, features_of):
    x, y = blobs(160)
    x[:20], y[20:30] = torch.nan, -1
    part = features_of(x, y, damaged={i: "truncated" for i in range(20)})
    (result,) = episodes.protocol(Case(part, part, alone=True), ways=3, shots=(1,), episodes=50)
    (clean,) = episodes.protocol(Case(part, features_of(x[30:], y[30:])), ways=3, shots=(1,), episodes=50)
    assert result.value == clean.value
    assert result.notes == ["20 test images cannot be read and are left out"]


def test_every_setting_is_another_protocol(case):
    settings = {"ways": 3, "shots": (2,), "queries": 10, "episodes": 20}
    (first,) = episodes.protocol(case, **settings)
    changes = {"ways": 2, "shots": (3,), "queries": 9, "episodes": 21, "head": "logistic", "centre": False}
    names = {"head": "classifier", "centre": "centred"}
    for name, value in changes.items():
        (other,) = episodes.protocol(case, **settings | {name: value})
        assert f"head.{names.get(name, name)}" in differences(first.protocol, other.protocol)
    other = Case(case.train, case.test, seed=1)
    assert differences(first.protocol, episodes.protocol(other, **settings)[0].protocol) == ["seeds"]


def test_bad_input_is_one_sentence(case, blobs, features_of):
    with pytest.raises(TapetumError, match="4 classes have 16 images, 5 are wanted; choose fewer ways"):
        episodes.protocol(case)
    part = features_of(blobs(40)[0], [str(i / 7) for i in range(40)])
    with pytest.raises(TapetumError, match="one class an image"):
        episodes.protocol(Case(part, part, kind="number"))


def test_drawings_of_characters(data_folder, tmp_path, monkeypatch):
    """Twenty drawings of each character are told apart better than by chance from their pixels alone."""
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path))
    source = open_data(str(data_folder / "omniglot-small.zip"))
    rows = [i for i, path in enumerate(source.paths) if "small1/" in path]
    names = [path.rpartition("/")[0] for path in source.paths]
    source = source.with_labels(names, "folders").take(rows[:2000])
    pixels = Encoder.wrap(torch.nn.Sequential(torch.nn.AvgPool2d(2), torch.nn.Flatten()), 28, name="small")
    case = Case(source, source, Extractor(pixels), alone=True)
    one, five = episodes.protocol(case, episodes=200)
    assert 0.3 < one.value < five.value < 0.9
    assert five.error_bar < 0.01
