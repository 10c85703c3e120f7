"""The store computes once, under a name that changes with all that changes features and with nothing else."""

import multiprocessing
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
from tapetum.encoders import Encoder, build
from tapetum.features import Extractor, View, extract, subject


def features(encoder, source, **settings):
    return Extractor(encoder, **settings).features(source)


def stored() -> list[str]:
    """The kinds of features there are."""
    return sorted(path.parent.name for path in (cache_dir() / "features").glob("*/about.json"))


def computed(monkeypatch) -> list[int]:
    """How many images each forward pass has from now on."""
    real, counts = Extractor._forward, []
    monkeypatch.setattr(
        Extractor, "_forward", lambda self, x, *rest: (counts.append(len(x)), real(self, x, *rest))[1]
    )
    return counts


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
    counts = computed(monkeypatch)
    again = features(encoder, open_data(images), batch_size=5, workers=1)
    np.testing.assert_array_equal(first.x, again.x)
    features(encoder, open_data(images, "none"))  # labels do not change features
    assert not counts


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


@pytest.mark.parametrize("change", ["more", "fewer", "content", "renamed"])
def test_what_is_new_in_the_data_alone_is_computed(images, encoder, change, monkeypatch):
    before = features(encoder, open_data(images))
    counts = computed(monkeypatch)
    image = images / "red" / "00.png"
    if change == "more":
        Image.new("RGB", (16, 12), (9, 9, 9)).save(images / "red" / "99.png")
    elif change == "fewer":
        image.unlink()
    elif change == "content":
        Image.new("RGB", (16, 12)).save(image)
    elif change == "renamed":
        image.rename(images / "red" / "99.png")
    found = features(encoder, open_data(images))
    assert counts == ([1] if change in ("more", "content") else [])
    assert len(stored()) == 1 and found.data != before.data
    fresh = encoder.encode([images / path for path in found.paths])
    np.testing.assert_allclose(found.x, fresh, atol=1e-6)


def test_equal_images_are_computed_once(images, encoder, monkeypatch):
    for i in range(5):
        shutil.copy(images / "red" / "00.png", images / "blue" / f"copy{i}.png")
    counts = computed(monkeypatch)
    found = features(encoder, open_data(images))
    assert sum(counts) == 24 and len(found) == 29
    row = found.paths.index("red/00.png")
    assert all((found.x[found.paths.index(f"blue/copy{i}.png")] == found.x[row]).all() for i in range(5))


@pytest.mark.parametrize("change", ["weights", "mean", "size", "precision", "out", "view", "pooling"])
def test_what_changes_features_changes_the_name(images, encoder, change):
    features(encoder, open_data(images))
    (before,) = stored()
    how, what = {}, {}
    if change == "weights":
        with torch.no_grad():
            encoder.net[0].bias[0] += 1e-3
    elif change == "mean":
        encoder = Encoder.wrap(encoder.net, 8, mean=(0.5, 0.5, 0.5), name="small")
    elif change == "size":
        encoder = Encoder.wrap(encoder.net, 10, name="small")
    elif change == "precision":
        how = {"precision": "bfloat16"}
    elif change == "view":
        what = {"view": View({"turned": 1}, lambda x, keys: x.rot90(1, (2, 3)))}
    elif change in ("out", "pooling"):
        encoder = build("resnet10_w32", 16)
        features(encoder, open_data(images))
        (before,) = set(stored()) - {before}
        how, what = ({}, {"out": "maps"}) if change == "out" else ({"pooling": "mean"}, {})
    count = len(stored())
    Extractor(encoder, **how).features(open_data(images), **what)
    assert len(stored()) == count + 1 and before in stored()


def test_the_extractor_version_is_part_of_the_name(images, encoder, monkeypatch):
    features(encoder, open_data(images))
    monkeypatch.setattr(extract, "EXTRACTOR_VERSION", extract.EXTRACTOR_VERSION + 1)
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


@pytest.mark.parametrize("harm", ["cut", "keys", "lost", "header"])
def test_a_damaged_segment_is_computed_again(images, encoder, harm):
    first = np.array(features(encoder, open_data(images)).x)
    (file,) = (cache_dir() / "features").glob("*/*.npy")
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    elif harm == "header":
        file.write_bytes(b"\x93NUMPX" + file.read_bytes()[6:])
    elif harm == "keys":
        file.with_suffix(".keys").write_bytes(b"short")
    else:
        file.with_suffix(".keys").unlink()
    np.testing.assert_allclose(features(encoder, open_data(images)).x, first, atol=1e-6)


def test_what_was_computed_before_a_failure_is_kept(images, monkeypatch):
    class Fails(nn.Module):
        broken = True

        def forward(self, x):
            if len(x) == 4 and self.broken:
                raise RuntimeError("out of memory")
            return x.mean((2, 3))

    monkeypatch.setattr(extract, "PERIOD", 0)  # keep after each batch
    net = Fails()
    with pytest.raises(RuntimeError, match="out of memory"):
        features(Encoder.wrap(net, 8), open_data(images), batch_size=10)
    counts = computed(monkeypatch)
    net.broken = False
    found = features(Encoder.wrap(net, 8), open_data(images), batch_size=10)
    assert counts == [4]
    monkeypatch.setenv("TAPETUM_CACHE", str(images.parent / "another"))
    np.testing.assert_array_equal(features(Encoder.wrap(net, 8), open_data(images)).x, found.x)


def test_rows_in_several_segments_too_large_for_memory_are_mapped(images, encoder, monkeypatch):
    whole = np.array(features(encoder, open_data(images)).x)
    monkeypatch.setenv("TAPETUM_CACHE", str(images.parent / "another"))
    monkeypatch.setattr(extract, "SEGMENT", 1)
    monkeypatch.setattr(extract, "free_memory", lambda: 0)
    (images / "red" / "07.png").write_bytes(b"damaged")
    found = features(encoder, open_data(images), batch_size=5)
    (folder,) = (cache_dir() / "features").iterdir()
    assert len(list(folder.glob("*.npy"))) == 5 and isinstance(found.x, np.memmap)
    assert not list(folder.glob("tmp*")), "the file of the map has no name"
    np.testing.assert_allclose(found.x[:-1], whole[:-1], atol=1e-6)
    assert np.isnan(found.x[-1]).all()


def _fill(images, cache, ready, results):
    import os

    os.environ["TAPETUM_CACHE"] = str(cache)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.Flatten())
    ready.wait()
    found = features(Encoder.wrap(net, 8), open_data(images), batch_size=3)
    results.put(np.array(found.x))


def test_two_processes_may_fill_at_once(images):
    context = multiprocessing.get_context("spawn")
    ready, results = context.Event(), context.Queue()
    both = [context.Process(target=_fill, args=(images, cache_dir(), ready, results)) for _ in range(2)]
    for one in both:
        one.start()
    ready.set()
    first, second = results.get(timeout=120), results.get(timeout=120)
    for one in both:
        one.join()
    np.testing.assert_array_equal(first, second)
    segments = list((cache_dir() / "features").glob("*/*.npy"))
    assert sum(len(np.load(file)) for file in segments) == 24, "the second waited for the first"


def test_another_users_store_serves_and_is_not_written(images, encoder, monkeypatch):
    first = np.array(features(encoder, open_data(images)).x)
    monkeypatch.setattr("os.utime", lambda *a: (_ for _ in ()).throw(PermissionError()))
    monkeypatch.setattr("tapetum.features.shelf.Shelf.filling", lambda self: pytest.fail("wrote"))
    np.testing.assert_array_equal(features(encoder, open_data(images)).x, first)


# ---- what is taken of an encoder ----


@pytest.fixture
def vit():
    torch.manual_seed(0)
    return build("vit_tiny_patch16_224", 32, depth=2, embed_dim=24, num_heads=2, reg_tokens=1).eval()


def pixels_of(encoder, images, found):
    from tapetum.encoders import prepare

    read = [prepare.prepare(prepare.pixels_of(images / path), encoder.spec) for path in found.paths]
    return torch.from_numpy(np.stack(read)).float() / 255


@torch.no_grad()
def test_tokens_and_maps_are_kept_in_half_precision(images, vit):
    tokens = Extractor(vit).features(open_data(images), "tokens")
    assert tokens.x.dtype == np.float16 and tokens.x.shape == (24, 64, 24)
    x = pixels_of(vit, images, tokens)
    np.testing.assert_allclose(tokens.x, vit.tokens(x).numpy(), atol=2e-3)
    maps = Extractor(vit).features(open_data(images), "maps")
    np.testing.assert_allclose(maps.x, vit.maps(x).numpy(), atol=2e-3)
    conv = build("resnet10_w32", 32).eval()
    maps = Extractor(conv).features(open_data(images), "maps").x
    tokens = Extractor(conv).features(open_data(images), "tokens").x
    np.testing.assert_array_equal(tokens, maps.reshape(*maps.shape[:2], -1).transpose(0, 2, 1))
    np.testing.assert_allclose(maps, conv.maps(x).numpy(), atol=2e-2)


@torch.no_grad()
def test_layers_and_poolings(images, vit):
    found = Extractor(vit, layer=0).features(open_data(images))
    x = pixels_of(vit, images, found)
    blocks = vit.features(x, layers=(0,)).layers[0]  # class token, register, patches
    np.testing.assert_allclose(found.x, blocks[:, 2:].mean(1).numpy(), atol=1e-5)
    first = Extractor(vit, layer=0, pooling="class").features(open_data(images)).x
    np.testing.assert_allclose(first, blocks[:, 0].numpy(), atol=1e-5)
    mean = Extractor(vit, pooling="mean").features(open_data(images)).x
    np.testing.assert_allclose(mean, vit.tokens(x).mean(1).numpy(), atol=1e-5)
    assert len({str(Extractor(vit, layer=layer).subject) for layer in (None, 0, 1)}) == 3


def test_what_an_encoder_cannot_give_is_said(images, vit, encoder):
    conv = build("resnet10_w32", 32)
    with pytest.raises(TapetumError, match="no class token; allowed poolings: encoder, mean"):
        Extractor(conv, pooling="class").features(open_data(images))
    with pytest.raises(TapetumError, match="there is no block 7; this backbone has blocks 0 to 1"):
        Extractor(vit, layer=7).features(open_data(images))
    with pytest.raises(TapetumError, match="neither tokens nor maps"):
        Extractor(encoder).features(open_data(images), "tokens")
    with pytest.raises(TapetumError, match="did you mean 'tokens'"):
        Extractor(vit).features(open_data(images), "token")
    with pytest.raises(TapetumError, match="did you mean 'mean'"):
        Extractor(vit, pooling="means")


def test_a_views_randomness_hangs_on_the_image_alone(images, encoder, tmp_path, monkeypatch):
    def noisy(pixels, keys):
        noise = [
            torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(k & 0xFFFF)) for k in keys.tolist()
        ]
        return (pixels.float() / 255 + 0.1 * torch.stack(noise)).clamp(0, 1)

    view = View({"noise": 0.1}, noisy)
    first = Extractor(encoder).features(open_data(images), view=view)
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "another"))
    shutil.copytree(images / "red", tmp_path / "other" / "x")
    part = Extractor(encoder, batch_size=3).features(open_data(tmp_path / "other"), view=view)
    rows = [first.paths.index(path.replace("x/", "red/")) for path in part.paths]
    np.testing.assert_allclose(part.x, first.x[rows], atol=1e-6)
    plain = Extractor(encoder).features(open_data(images))
    assert not np.allclose(plain.x, first.x, atol=1e-3)


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
