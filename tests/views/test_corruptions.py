"""Corruptions against the package imagecorruptions, given the same random numbers, and what holds for all."""

import sys
import types
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats

from tapetum.base.errors import TapetumError
from tapetum.views import corruptions
from tapetum.views.corruptions import blur, digital, spatter
from tapetum.views.corruptions import frost as ice
from tapetum.views.corruptions.numbers import Draws

cv2 = pytest.importorskip("cv2")
filters = pytest.importorskip("skimage.filters")
NAMES = corruptions.COMMON + corruptions.EXTRA
# How many values may be one level off: the reference cuts off fractions, so that a sum in another order, or
# in single precision, turns a 128 into 127.99999 and so into 127.
ONE_OFF = {name: 0.03 for name in ("brightness", "defocus_blur", "elastic_transform", "saturate", "snow")}


class Legacy(np.random.RandomState):
    """numpy's global random numbers under the names that its generators have."""

    integers = np.random.RandomState.randint


@pytest.fixture(scope="module")
def peer():
    """The package, which asks for an older scikit-image, numpy, scipy and setuptools."""
    from skimage import color
    from skimage.util import random_noise

    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda module, file: str(Path(sys.modules[module].__file__).parent / file)
    interpolation = types.ModuleType("interpolation")
    interpolation.map_coordinates = ndimage.map_coordinates
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pkg_resources", resources)
        patch.setitem(sys.modules, "scipy.ndimage.interpolation", interpolation)
        patch.setattr(np, "float_", np.float64, raising=False)
        module = pytest.importorskip("imagecorruptions.corruptions")

        def gaussian(x, sigma, multichannel=False, **more):
            return filters.gaussian(x, sigma, channel_axis=-1 if multichannel else None, **more)

        def noise(x, mode, amount):
            return random_noise(x, mode=mode, amount=amount, rng=np.random.default_rng(7))

        patch.setattr(module, "gaussian", gaussian)
        patch.setattr(
            module, "sk", types.SimpleNamespace(util=types.SimpleNamespace(random_noise=noise), color=color)
        )
        yield module


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs with noise, all levels: uint8 [H, W, 3]."""
    g = np.random.default_rng(seed)
    x = ndimage.gaussian_filter(g.normal(size=(height, width, 3)), (6, 6, 0)) * 5 + 0.5
    x += g.normal(0, 0.02, x.shape)
    x[: height // 8, : width // 8] = 0.5  # a flat corner
    return (x.clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_it_equals_imagecorruptions(peer, name):
    photos = corruptions.frost_photos(Path(peer.__file__).parent / "frost")
    for x, severities in ((photo(96, 96), (1, 2, 3, 4, 5)), (photo(64, 118, 1), (2, 5))):
        for severity in severities:
            np.random.seed(7)
            draws = np.random.default_rng(7) if name == "impulse_noise" else Legacy(7)
            want = np.uint8(getattr(peer, name)(Image.fromarray(x), severity)).astype(int)
            got = corruptions.corrupt(x, name, severity, draws, "imagenet", photos)
            assert got.dtype == np.uint8 and got.shape == x.shape
            off = abs(got - want)
            assert off.max() <= 1, f"strength {severity}"
            assert (off > 0).mean() <= ONE_OFF.get(name, 0.002), f"strength {severity}"
            assert abs(want - x).mean() > 0.5  # so there was something to compare


def test_all_corruptions_are_found_with_five_strengths_in_both_sets():
    assert set(corruptions.found()) == set(NAMES) and len(NAMES) == 19
    for _, table in corruptions.found().values():
        assert {len(table[s]) for s in ("imagenet", "cifar")} == {5}


@pytest.mark.parametrize("strengths, side", [("cifar", 32), ("imagenet", 96)])
@pytest.mark.parametrize("name", NAMES)
def test_higher_strengths_change_more_and_a_key_gives_one_picture(name, strengths, side):
    images = [photo(side, side, seed) for seed in range(8)]
    change = []
    for severity in range(1, 6):
        out = [corruptions.corrupt(x, name, severity, Draws(i), strengths) for i, x in enumerate(images)]
        change.append(np.mean([abs(y.astype(int) - x).mean() for x, y in zip(images, out)]))
    again = corruptions.corrupt(images[2], name, 5, Draws(2), strengths)
    assert np.array_equal(again, out[2])
    assert min(change) > 0.2  # the tables of some fall, or jump
    if name not in {
        "saturate",
        "glass_blur",
        "elastic_transform",
        "pixelate",
        "spatter",
    }:
        assert change[4] > 1.1 * change[0]
        assert all(b > a * 0.85 for a, b in pairwise(change)), change


def test_pictures_depend_on_the_key_alone():
    x = np.stack([photo(40, 40, s) for s in range(4)]).transpose(0, 3, 1, 2)
    keys = np.array([5, -(2**62), 5, 9])
    x[2] = x[0]
    for name in ("gaussian_noise", "shot_noise", "snow", "frost", "spatter", "glass_blur"):
        out = corruptions.corrupt_batch(x, keys, name, 4)
        assert np.array_equal(out[0], out[2])
        order = np.array([3, 1])
        assert np.array_equal(corruptions.corrupt_batch(x[order], keys[order], name, 4), out[order])
        assert not np.array_equal(corruptions.corrupt_batch(x[:1], keys[3:], name, 4)[0], out[0])


def test_gray_images_stay_gray_and_other_channels_are_refused():
    x = photo(40, 40).transpose(2, 0, 1)[None, :1]
    out = corruptions.corrupt_batch(x, np.array([1]), "motion_blur", 3)
    assert out.shape == x.shape and not np.array_equal(out, x)
    with pytest.raises(TapetumError, match=r"of 3 channels, or of 1; these have 5\."):
        corruptions.corrupt_batch(np.zeros((1, 5, 8, 8), np.uint8), np.array([1]), "fog", 3)


def test_bad_requests_are_one_sentence(tmp_path):
    x = photo(40, 40)
    with pytest.raises(TapetumError, match="unknown corruption 'fgo'; did you mean 'fog'"):
        corruptions.corrupt(x, "fgo", 1, Draws(0))
    with pytest.raises(TapetumError, match=r"the severity of fog is 6; it is a whole number from 1 to 5\."):
        corruptions.corrupt(x, "fog", 6, Draws(0))
    with pytest.raises(TapetumError, match=r"uint8 \[H, W, 3\]; these are float64 \[40, 40, 3\]"):
        corruptions.corrupt(x / 255, "fog", 1, Draws(0))
    with pytest.raises(TapetumError, match="unknown set of strengths 'cifer'"):
        corruptions.corrupt(x, "fog", 1, Draws(0), "cifer")  # type: ignore[arg-type]
    with pytest.raises(TapetumError, match="is no folder with photographs of frost"):
        corruptions.frost_photos(tmp_path)


def test_the_facts_say_which_strengths_and_which_frost(tmp_path):
    small, large = (corruptions.facts("fog", 2, side) for side in (32, 33))
    assert (small["strengths"], large["strengths"]) == ("cifar", "imagenet")
    assert "not comparable" in corruptions.facts("frost", 2, 64)["texture"]
    for i in range(6):
        Image.fromarray(photo(40, 50, i)).save(tmp_path / f"frost{i}.png")
    photos = corruptions.frost_photos(tmp_path)
    assert [p.name for p in photos] == [
        f"frost{i}.png" for i in range(5)
    ]  # as published: the sixth is not used
    assert len(corruptions.facts("frost", 2, 64, frost=photos)["texture"]) == 5


def test_tiny_images_pass():
    x = photo(8, 8)
    for name in NAMES:
        for severity in (1, 5):
            assert corruptions.corrupt(x, name, severity, Draws(3), "imagenet").shape == (8, 8, 3)


# ---- the parts ----


def test_draws_have_the_distributions_that_they_name():
    draws, n = Draws(11), 20_000
    assert stats.kstest(draws.random(n), "uniform").pvalue > 0.01
    assert stats.kstest(draws.normal(2, 3, n), "norm", (2, 3)).pvalue > 0.01
    assert stats.chisquare(np.bincount(draws.integers(-2, 3, n) + 2, minlength=5)).pvalue > 0.01
    assert abs(np.corrcoef(draws.random(n), draws.random(n))[0, 1]) < 0.03
    means = np.array([0.0, 0.3, 4.0, 60.0, 500.0])
    counts = draws.poisson(np.repeat(means[:, None], n, 1))
    assert counts.shape == (5, n) and (counts[0] == 0).all()
    for mean, found in zip(means[1:], counts[1:]):
        edges = np.unique(stats.poisson(mean).ppf(np.linspace(0.05, 0.95, 10)))
        expected = np.diff(stats.poisson(mean).cdf(edges), prepend=0, append=1) * n
        seen = np.bincount(np.searchsorted(edges, found), minlength=len(expected))
        keep = expected > 0
        assert stats.chisquare(seen[keep], expected[keep]).pvalue > 0.01, mean


def test_glass_copies_one_pixel_after_the_other():
    """Pointer doubling against the loop over pixels."""
    g = np.random.default_rng(0)
    place = np.arange(99, 9, -1)
    taken = (place + g.integers(-9, 9, len(place))).clip(0, 109)
    x = np.arange(110)
    for p, q in zip(place, taken):
        x[p] = x[q]
    assert np.array_equal(blur._origins(place, taken, 110), x)
    assert not np.array_equal(x[place], taken)


@pytest.mark.parametrize("seed", range(3))
def test_edges_and_distances_equal_opencv(seed):
    layer = spatter.liquid((80, 90), np.random.default_rng(seed), 0.65, 0.3, 2, 0.68)
    thick = (layer * 255).astype(np.uint8)
    edge = spatter.edges(thick)
    assert np.array_equal(edge, cv2.Canny(thick, 50, 150) > 0) and 0 < edge.mean() < 0.5
    far = cv2.distanceTransform(np.uint8(~edge), cv2.DIST_L2, 5).clip(max=20)
    assert np.allclose(spatter.distance(edge, 20), far, atol=1e-3)
    assert np.array_equal(spatter.equalised(thick), cv2.equalizeHist(thick))
    assert np.array_equal(spatter.equalised(thick * 0), thick * 0)


def test_three_points_move_the_image_as_opencv_moves_it():
    x, most = ndimage.gaussian_filter(photo(32, 32) / 255, (1, 1, 0)), 2.5
    middle, arm = np.float32([16, 16]), 10
    points = np.float32([middle + arm, [middle[0] + arm, middle[1] - arm], middle - arm])
    moved = points + np.random.default_rng(3).uniform(-most, most, points.shape).astype(np.float32)
    matrix = cv2.getAffineTransform(points, moved)
    want = cv2.warpAffine(x.astype(np.float32), matrix, (32, 32), borderMode=cv2.BORDER_REFLECT_101)
    got = digital._affine(x, np.random.default_rng(3), most)
    assert abs(got - want).max() < 0.02  # OpenCV places pixels at 32nds
    assert abs(x - want).max() > 0.1


@pytest.mark.parametrize("n, out", [(50, 55), (50, 75), (50, 10), (315, 63)])
def test_photographs_of_frost_are_resized_as_opencv_does(n, out):
    x = photo(n, n)[:, :1, 0]
    how = cv2.INTER_CUBIC if out > n else cv2.INTER_LINEAR
    want = cv2.resize(x, (1, out), interpolation=how)[:, 0].astype(float)
    assert abs((ice._resizing(n, out) @ x[:, 0]).clip(0, 255) - want).max() <= 1


def test_made_frost_is_as_bright_and_as_varied_as_the_photographs(peer):
    """Means 121 to 207 and spreads 15 to 44 over the five photographs that are used."""
    folder = Path(peer.__file__).parent / "frost"
    panes = [np.asarray(Image.open(f).convert("L")) for f in sorted(folder.iterdir())[:5]]
    made = [ice.crystals((160, 160), Draws(i)).mean(2) for i in range(30)]
    for measure, slack in ((np.mean, 10), (np.std, 6)):
        real, ours = [measure(p) for p in panes], [measure(m) for m in made]
        assert min(real) - slack < min(ours) and max(ours) < max(real) + slack
        assert np.mean(ours) == pytest.approx(np.mean(real), abs=2 * slack)
    assert len({m.tobytes() for m in made}) == 30
