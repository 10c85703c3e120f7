"""Swapped preprocessing against kNN on features made by hand, and the cheap features beside it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.encoders import Encoder
from tapetum.evaluate.case import Case
from tapetum.evaluate.cheap import RandomConvolutions, Statistics, patches
from tapetum.evaluate.protocols import knn, preprocessing
from tapetum.features import Extractor


def write(folder: Path, per_class: int, seed: int) -> Path:
    """Bright and dark, wide images."""
    g = np.random.default_rng(seed)
    for name, level in (("bright", 150), ("dark", 110)):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            x = g.normal(level + g.normal(0, 25), 30, (24, 40, 3))
            Image.fromarray(x.clip(0, 255).astype("u1")).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture
def case(tmp_path, monkeypatch) -> Case:
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "cache"))
    parts = [open_data(write(tmp_path / name, n, i)) for i, (name, n) in enumerate((("a", 20), ("b", 15)))]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return Case(*parts, Extractor(Encoder.wrap(net, 16, name="small"), workers=1))


def test_each_variant_is_knn_with_that_preprocessing(case):
    found = {r.name: r for r in preprocessing.protocol(case, k=5)}
    own = knn.protocol(case, k=5)
    assert found["knn accuracy, as it is"].value == own.value
    assert found["knn accuracy, as it is"].subject == own.subject
    assert set(found) == {
        f"knn accuracy, {words}"
        for words in (
            *("as it is", "8 pixels", "pad", "squash", "normalised by data", "normalised by half"),
            *("normalised by none", "image statistics", "random convolutions"),
        )
    }  # crop and ImageNet's statistics are its own
    small = found["knn accuracy, 8 pixels"]
    spec = replace(case.extractor.encoder.spec, image_size=8)
    by_hand = Case(
        case.train.source, case.test.source, Extractor(Encoder(case.extractor.encoder.net, spec), workers=1)
    )
    assert small.value == knn.protocol(by_hand, k=5).value
    assert small.subject["preprocessing"]["image_size"] == 8
    assert len({r.subject_id for r in found.values()}) == len({r.protocol_id for r in found.values()}) == 9


def test_the_datas_statistics_are_those_of_the_prepared_training_images(case):
    found = {r.name: r for r in preprocessing.protocol(case, k=5, fits=(), sizes=())}
    said = found["knn accuracy, normalised by data"].details["preprocessing"]
    source = case.train.source
    pixels = np.stack([case.extractor.encoder.prepare(source.read(i)) for i in range(len(source))]) / 255
    assert said["mean"] == pytest.approx(pixels.mean((0, 2, 3)), abs=1e-3)
    assert said["std"] == pytest.approx(pixels.std((0, 2, 3)), abs=1e-3)


def test_all_with_all_and_fewer_images(case):
    every = preprocessing.protocol(
        case, k=3, norms=("half",), fits=("pad",), cross=True, images=10, train_images=20
    )
    assert len(every) == 1 + 7 + 2
    assert "knn accuracy, 8 pixels, pad, normalised by half" in {r.name for r in every}
    assert {r.n for r in every} == {10} and every[0].protocol["head"]["train images"] == 20


def test_what_an_encoder_cannot_take_is_left_out_and_said(tmp_path, case):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    stiff = Case(
        case.train.source, case.test.source, Extractor(Encoder.wrap(net, 16, name="stiff"), workers=1)
    )
    found = preprocessing.protocol(stiff, k=3, norms=())
    assert not any("8 pixels" in r.name for r in found)
    assert any("left out: 8 pixels: stiff does not take images of 8 pixels" in n for n in found[0].notes)


def test_labels_of_another_kind_are_refused(case):
    numbers = Case(case.train.source, case.test.source, case.extractor, kind="classes")
    with pytest.raises(TapetumError, match="preprocessing needs one class an image"):
        preprocessing.protocol(numbers)


# ---- cheap features ----


def test_statistics_are_numpys():
    x = torch.rand(3, 2, 7, 9, generator=torch.Generator().manual_seed(0))
    want = [f(x.numpy(), axis=(2, 3)) for f in (np.mean, np.std, np.min, np.max)]
    assert np.allclose(Statistics()(x), np.concatenate(want, 1), atol=1e-6)


def test_filters_are_white_patches_and_their_features_tell_textures_apart():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(40, 3, 20, 20, generator=g)
    smooth = nn.functional.avg_pool2d(nn.functional.pad(x, (2, 2, 2, 2), mode="reflect"), 5, 1)
    filters = patches(torch.cat([x, smooth]), 5, seed=1)
    assert filters.shape == (256, 3, 5, 5) and torch.allclose(
        filters.flatten(1).norm(dim=1), torch.tensor(5.0)
    )
    assert not torch.equal(filters, patches(torch.cat([x, smooth]), 5, seed=2))
    features = RandomConvolutions(filters)(torch.cat([x, smooth]))
    assert features.shape == (80, 512) and (features >= 0).all()
    assert (
        features[:40].mean() > 2 * features[40:].mean()
    )  # rough images are like the filters, here and there
