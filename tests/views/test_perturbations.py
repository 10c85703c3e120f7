"""Sequences of slightly changed images: each frame against another library's, and what holds for all."""

import math

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tapetum.base.errors import TapetumError
from tapetum.views import perturbations
from tapetum.views.corruptions import digital, spatter
from tapetum.views.corruptions.numbers import Draws

cv2 = pytest.importorskip("cv2")
NAMES = perturbations.COMMON + perturbations.EXTRA


def photo(side: int, seed: int = 0) -> np.ndarray:
    g = np.random.default_rng(seed)
    return (
        (ndimage.gaussian_filter(g.normal(size=(side, side, 3)), (4, 4, 0)) * 600 + 128)
        .clip(0, 255)
        .astype("u1")
    )


def frame(name, number, x=None, key=3):
    return perturbations.frame(photo(64) if x is None else x, name, number, key, "imagenet").astype(int)


def inner(x: np.ndarray) -> np.ndarray:
    """Without what comes from outside."""
    return x[16:-16, 16:-16]


@pytest.mark.parametrize("strengths, side", [("imagenet", 48), ("cifar", 32)])
@pytest.mark.parametrize("name", NAMES)
def test_frames_change_a_little_and_not_at_random(name, strengths, side):
    x, count = photo(side), perturbations.sequence(name).of(strengths)[0]
    frames = np.stack([perturbations.frame(x, name, i, 3, strengths) for i in range(count)]).astype(int)
    step = abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    noisy = perturbations.sequence(name).noisy
    assert step.sum() > 0 and step.max() < 40
    assert abs(frames[-1] - frames[0]).mean() > (0.5 if noisy else 2) * np.median(step)
    assert np.array_equal(perturbations.frame(x, name, 7, 3, strengths), frames[7])
    if noisy:
        assert np.array_equal(frames[0], x)
        assert abs(np.corrcoef((frames[1] - x).ravel(), (frames[2] - x).ravel())[0, 1]) < 0.1
    if noisy or name in {"snow", "spatter"}:
        assert not np.array_equal(perturbations.frame(x, name, 7, 4, strengths), frames[7])
    with pytest.raises(TapetumError, match=f"{name} has frames 0 to {count - 1}, no frame {count}"):
        perturbations.frame(x, name, count, 3, strengths)


def test_at_least_ten_and_the_clean_frame_is_in_the_middle_of_moves():
    assert set(perturbations.SEQUENCES) == set(NAMES) and len(NAMES) == 14
    x = photo(64)
    for name, middle in {"translate": 20, "rotate": 15, "tilt": 15, "shear": 15, "scale": 24}.items():
        assert abs(frame(name, middle) - x).max() <= 1, name
    with pytest.raises(TapetumError, match="unknown perturbation 'tlit'; did you mean 'tilt'"):
        perturbations.frame(x, "tlit", 0, 1)


def test_moves_equal_pillow_and_opencv():
    x = photo(64)
    assert np.array_equal(frame("translate", 25)[:, 5:], x[:, :-5])
    turned = Image.fromarray(x).rotate(-10, Image.Resampling.BILINEAR)  # Pillow turns against the clock
    assert abs(inner(frame("rotate", 25)) - inner(np.asarray(turned))).max() <= 3
    slope, c = math.tan(math.radians(10)), 32
    sheared = Image.fromarray(x).transform(
        (64, 64), Image.Transform.AFFINE, (1, slope, -slope * c, 0, 1, 0), Image.Resampling.BILINEAR
    )
    assert abs(inner(frame("shear", 25)) - inner(np.asarray(sheared))).max() <= 4
    w = h = 63
    a, far = math.radians(10), math.hypot(64, 64)
    about_x = np.array(
        [[1, 0, 0, 0], [0, math.cos(a), -math.sin(a), 0], [0, math.sin(a), math.cos(a), 0], [0, 0, 0, 1]]
    )
    about_y = np.array(
        [[math.cos(a), 0, -math.sin(a), 0], [0, 1, 0, 0], [math.sin(a), 0, math.cos(a), 0], [0, 0, 0, 1]]
    )
    lay = np.array([[1, 0, -w / 2], [0, 1, -h / 2], [0, 0, 0], [0, 0, 1]])
    away = np.eye(4)
    away[2, 3] = far
    see = np.array([[far, 0, w / 2, 0], [0, far, h / 2, 0], [0, 0, 1, 0]])
    tilted = cv2.warpPerspective(x, see @ away @ about_x @ about_y @ lay, (64, 64))
    assert abs(inner(frame("tilt", 25)) - inner(tilted)).max() <= 4
    assert abs(inner(frame("tilt", 25)) - inner(x)).max() > 10


def test_scaling_shows_black_around_what_shrinks():
    small = frame("scale", 0)  # 0.4 of 64 pixels
    assert (small[:18] == 0).all() and (small[20:44, 20:44] > 0).mean() > 0.9
    large = ndimage.zoom(photo(64).astype(float), (1.15, 1.15, 1), order=1, grid_mode=True, mode="nearest")
    assert abs(frame("scale", 30)[16:-16, 16:-16] - large[21:53, 21:53]).mean() < 3


def test_blurs_and_brightness_equal_their_definitions():
    x = photo(64)
    want = ndimage.gaussian_filter(x.astype(float), (0.25 + 0.35, 0.25 + 0.35, 0), mode="nearest", truncate=6)
    assert abs(frame("gaussian_blur", 10) - want).max() <= 1
    assert np.array_equal(frame("brightness", 20), digital.brightness(x, Draws(0), 0.1).astype("u1"))
    layers = [frame("zoom_blur", 0)]
    for j in (1, 2):
        c = 31.5
        grid = np.stack(np.meshgrid(np.arange(64), np.arange(64), indexing="ij"))
        place = (grid - c) / (1 + 0.004 * j) + c
        layers.append(
            np.stack([ndimage.map_coordinates(x[..., k].astype(float), place, order=1) for k in range(3)], -1)
        )
    assert abs(frame("zoom_blur", 2) - np.mean(layers, 0)).max() <= 1


def test_drops_run_down_as_a_convolution_of_columns():
    drops = spatter.liquid((64, 64), Draws(3), 0.65, 0.27, 3.7, 0.69)
    for _ in range(4):
        drops = np.stack([np.convolve(c, (0.05, 0.1, 0.15, 0.7), mode="same") for c in drops.T], 1)
    want = photo(64) + spatter.water(drops.clip(0, 1), 0.6)[..., None] * spatter.TURQUOISE * 255
    assert abs(frame("spatter", 4) - want.clip(0, 255)).max() <= 1
    assert drops.max() > 0.1
