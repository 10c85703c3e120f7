"""The store computes once, under a name that changes with all that changes features and with nothing else."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tapetum.base.errors import TapetumError
from tapetum.base.files import cache_dir
from tapetum.data.open import open_data
from tapetum.encoders import Encoder
from tapetum.evaluate import store
from tapetum.evaluate.store import features, subject


def stored() -> list[str]:
    return sorted(path.stem for path in (cache_dir() / "features").glob("*.npy"))


def test_features_are_those_of_the_encoder_row_by_row(images, encoder):
    found = features(encoder.train(), open_data(images))
    assert encoder.training, "the caller's encoder is left as it was"
    paths = [images / path for path in found.paths]
    np.testing.assert_allclose(found.x, encoder.encode(paths), atol=1e-6)
    assert found.paths == sorted(found.paths)
    assert [found.classes[i] for i in found.labels] == [path.split("/")[0] for path in found.paths]
    assert isinstance(found.x, np.memmap) and not found.damaged


def test_the_second_time_nothing_is_computed(images, encoder, monkeypatch):
    first = features(encoder, open_data(images))
    monkeypatch.setattr(store, "_fill", lambda *a, **k: pytest.fail("computed again"))
    again = features(encoder, open_data(images), batch_size=5, workers=1)
    np.testing.assert_array_equal(first.x, again.x)
    features(encoder, open_data(images, "none"))  # labels do not change features


def test_batches_and_workers_change_nothing(images, encoder):
    first = np.array(features(encoder, open_data(images)).x)
    for batch_size, workers in ((1, 1), (7, 3)):
        shutil.rmtree(cache_dir() / "features")
        again = features(encoder, open_data(images), batch_size=batch_size, workers=workers)
        np.testing.assert_allclose(again.x, first, atol=1e-6)


def test_the_same_content_elsewhere_has_the_same_name(images, encoder, tmp_path):
    features(encoder, open_data(images))
    shutil.copytree(images, tmp_path / "elsewhere")
    shutil.make_archive(str(tmp_path / "packed"), "zip", images)
    features(encoder, open_data(tmp_path / "elsewhere"))
    features(encoder, open_data(tmp_path / "packed.zip"))
    assert len(stored()) == 1


def test_another_order_of_listing_is_the_same_content(images, encoder):
    source = open_data(images)
    first = features(encoder, source)
    other = features(encoder, source.take(np.arange(len(source))[::-1]))
    assert len(stored()) == 1 and other.paths == first.paths
    np.testing.assert_array_equal(other.labels, first.labels)


@pytest.mark.parametrize(
    "change", ["more", "fewer", "content", "renamed", "weights", "mean", "size", "precision"]
)
def test_what_changes_features_changes_the_name(images, encoder, change):
    features(encoder, open_data(images))
    (before,) = stored()
    precision, image = "float32", images / "red" / "00.png"
    if change == "more":
        shutil.copy(image, images / "red" / "99.png")
    elif change == "fewer":
        image.unlink()
    elif change == "content":
        Image.new("RGB", (16, 12)).save(image)
    elif change == "renamed":
        image.rename(images / "red" / "0.png")
    elif change == "weights":
        with torch.no_grad():
            encoder.net[0].bias[0] += 1e-3
    elif change == "mean":
        encoder = Encoder.wrap(encoder.net, 8, mean=(0.5, 0.5, 0.5), name="small")
    elif change == "size":
        encoder = Encoder.wrap(encoder.net, 10, name="small")
    elif change == "precision":
        precision = "bfloat16"
    features(encoder, open_data(images), precision=precision)
    assert len(stored()) == 2 and before in stored()


def test_the_extractor_version_is_part_of_the_name(images, encoder, monkeypatch):
    features(encoder, open_data(images))
    monkeypatch.setattr(store, "EXTRACTOR_VERSION", store.EXTRACTOR_VERSION + 1)
    features(encoder, open_data(images))
    assert len(stored()) == 2


def test_another_shape_with_the_same_weights_is_another_subject(encoder):
    spec = replace(encoder.spec, model="resnet18", args={"strides": 1})
    encoder.spec = spec
    first = subject(encoder)
    for other in (
        replace(spec, args={"strides": 2}),
        replace(spec, stem="nopool"),
        replace(spec, model="resnet34"),
    ):
        encoder.spec = other
        assert subject(encoder) != first
    encoder.spec = replace(spec, began_from="public", name="another name")
    assert subject(encoder) == first, "where weights came from does not change features"


def test_images_that_cannot_be_read_are_rows_of_nan(images, encoder):
    whole = features(encoder, open_data(images))
    at = whole.paths.index("green/03.png")
    (images / "green" / "03.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    for _ in range(2):  # computed, then from the store
        found = features(encoder, open_data(images), batch_size=4)
        assert list(found.damaged) == [at]
        assert np.isnan(found.x[at]).all()
        rest = np.arange(len(found)) != at
        np.testing.assert_allclose(found.x[rest], whole.x[rest], atol=1e-6)
    part = found.take(np.array([0, at, at + 1]))
    assert list(part.damaged) == [1] and part.paths[2] == whole.paths[at + 1]


def test_a_batch_of_nothing_but_damage(images, encoder):
    for path in (images / "blue").iterdir():
        path.write_bytes(b"not an image")
    found = features(encoder, open_data(images), batch_size=4)
    assert sorted(found.damaged) == list(range(8)) and np.isfinite(found.x[8:]).all()
    for path in images.rglob("*.png"):
        path.write_bytes(b"not an image")
    with pytest.raises(TapetumError, match="none of the 24 images"):
        features(encoder, open_data(images))


@pytest.mark.parametrize("harm", ["cut", "facts", "lost"])
def test_a_damaged_store_is_computed_again(images, encoder, harm):
    first = np.array(features(encoder, open_data(images)).x)
    (file,) = (cache_dir() / "features").glob("*.npy")
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    elif harm == "facts":
        file.with_suffix(".json").write_text("{")
    else:
        file.with_suffix(".json").unlink()
    np.testing.assert_allclose(features(encoder, open_data(images)).x, first, atol=1e-6)


def test_a_failure_leaves_nothing_behind(images):
    class Fails(nn.Module):
        def forward(self, x):
            if len(x) == 5:
                raise RuntimeError("out of memory")
            return x.mean((2, 3))

    with pytest.raises(RuntimeError, match="out of memory"):
        features(Encoder.wrap(Fails(), 8), open_data(images), batch_size=5)
    assert not list((cache_dir() / "features").iterdir())


def test_features_that_are_no_numbers_are_refused(images):
    class Broken(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)).log() / 0

    with pytest.raises(TapetumError, match="not finite"):
        features(Encoder.wrap(Broken(), 8), open_data(images))


def test_bfloat16_is_close_but_not_float32(images, encoder):
    exact = features(encoder, open_data(images)).x
    rough = features(encoder, open_data(images), precision="bfloat16").x
    assert rough.dtype == np.float32 and not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, atol=0.05)
    with pytest.raises(TapetumError, match="did you mean 'bfloat16'"):
        features(encoder, open_data(images), precision="bfloat")


def test_more_images_than_fit_in_flight(tmp_path, encoder, write_images, monkeypatch):
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "cache"))
    folder = write_images(tmp_path / "many", 20)
    found = features(encoder, open_data(folder), batch_size=2, workers=2)
    np.testing.assert_allclose(found.x, encoder.encode([folder / path for path in found.paths]), atol=1e-6)
