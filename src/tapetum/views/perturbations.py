"""Short sequences of an image that changes a little from frame to frame (ImageNet-P). arXiv:1903.12261

The published sequences are cut from the middle of larger images; here the image itself moves, and what lies
outside of it is its mirror image, or black around one that shrinks. They are not compressed as videos.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapetum.base.errors import TapetumError, unknown
from tapetum.views.corruptions import Strengths, digital, each, meant, noise, spatter, weather
from tapetum.views.corruptions.numbers import Draws
from tapetum.views.corruptions.sampling import at_places, gaussian, grid, streaked

COMMON = (
    *("gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "snow"),
    *("brightness", "translate", "rotate", "tilt", "scale"),
)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "shear")
VERSION = 1  # raise it when frames come out otherwise than before

# (pixels uint8 [H, W, 3], frame from 0 on, key of the image, numbers of the set of strengths) -> [H, W, 3]
Frame = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Sequence:
    """A frame's function, the number of frames and further numbers in both sets of strengths.

    `noisy`: frames are independent, so that each is compared with the clean first and not with the last.
    """

    frame: Frame
    imagenet: tuple
    cifar: tuple
    noisy: bool = False

    def of(self, strengths: str) -> tuple[int, tuple]:
        """How many frames, and the numbers."""
        count, *numbers = self.cifar if strengths == "cifar" else self.imagenet
        return count, tuple(numbers)


def frame(x: np.ndarray, name: str, number: int, key: int, strengths: Strengths = "auto") -> np.ndarray:
    """Frame `number` of the sequence `name` of an image uint8 [H, W, 3]; uint8 of the same shape.

    Raises TapetumError for a name or a frame that there is not.
    """
    count, numbers = sequence(name).of(meant(strengths, x.shape))
    if number not in range(count):
        raise TapetumError(f"{name} has frames 0 to {count - 1}, no frame {number}.")
    return sequence(name).frame(x, number, key, *numbers).clip(0, 255).astype(np.uint8)


def sequence(name: str) -> Sequence:
    """The sequence of this name; raises TapetumError."""
    if name not in SEQUENCES:
        raise unknown("perturbation", name, SEQUENCES)
    return SEQUENCES[name]


def facts(name: str, number: int, size: int, strengths: Strengths = "auto") -> dict[str, Any]:
    """What decides how a frame of images of this size comes out."""
    said = meant(strengths, (size, size))
    sequence(name)
    return {"perturbation": name, "frame": number, "strengths": said, "version": VERSION}


def frame_batch(
    pixels: np.ndarray, keys: np.ndarray, name: str, number: int, strengths: Strengths = "auto"
) -> np.ndarray:
    """The frame of images uint8 [B, C, S, S], each with numbers from its key [B] int64."""
    return each(pixels, keys, lambda x, key: frame(x, name, number, key, strengths))


# ---- noise: the first frame is clean ----


def _noise(change: Frame) -> Frame:
    def noisy(x: np.ndarray, i: int, key: int, amount: float) -> np.ndarray:
        return change(x, Draws(key, stream=i), amount) if i else x

    return noisy


# ---- one change that goes on ----


def _motion_blur(
    x: np.ndarray, i: int, key: int, radius: int, sigma: float, middle: int, degrees: float
) -> np.ndarray:
    return streaked(x, radius, sigma, (i - middle) * degrees)


def _zoom_blur(x: np.ndarray, i: int, key: int, step: float) -> np.ndarray:
    return np.mean([_moved(x, _scaling(1 + step * j)) for j in range(i + 1)], 0)


def _snow(
    x: np.ndarray, i: int, key: int, zoom: float, radius: int, sigma: float, degrees: float
) -> np.ndarray:
    layer = weather.flakes(x.shape[:2], Draws(key), 0.05, 0.3, zoom, 0.5)
    return weather.snowed(x, layer, radius, sigma, i * degrees - 150, 0.85)


def _brightness(x: np.ndarray, i: int, key: int, step: float) -> np.ndarray:
    return digital.brightness(x, Draws(key), (i - 15) * step)


def _gaussian_blur(x: np.ndarray, i: int, key: int, first: float, step: float, truncate: float) -> np.ndarray:
    return gaussian(x.astype(np.float64), first + step * i, truncate)


def _spatter(
    x: np.ndarray,
    i: int,
    key: int,
    mean: float,
    spread: float,
    sigma: float,
    threshold: float,
    flow: tuple[float, ...],
) -> np.ndarray:
    """Drops that run down: at each frame a column's liquid is spread as `flow` says."""
    drops = spatter.liquid(x.shape[:2], Draws(key), mean, spread, sigma, threshold)
    step = sum(w * np.eye(len(x), k=(len(flow) - 1) // 2 - m) for m, w in enumerate(flow))
    drops = np.linalg.matrix_power(step, i) @ drops
    return x + spatter.water(drops.clip(0, 1), 0.6)[..., None] * spatter.TURQUOISE * 255


# ---- moves ----


def _translate(x: np.ndarray, i: int, key: int, middle: int) -> np.ndarray:
    move = np.eye(3)
    move[0, 2] = middle - i  # whole pixels, from left to right
    return _moved(x, move)


def _rotate(x: np.ndarray, i: int, key: int, middle: int) -> np.ndarray:
    """From 15 degrees against the clock to 15 with it."""
    angle = math.radians(i - middle)
    cos, sin = math.cos(angle), math.sin(angle)
    return _moved(x, np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]))


def _shear(x: np.ndarray, i: int, key: int, middle: int) -> np.ndarray:
    return _moved(x, np.array([[1, math.tan(math.radians(i - middle)), 0], [0, 1, 0], [0, 0, 1]]))


def _scale(x: np.ndarray, i: int, key: int, first: float, step: float) -> np.ndarray:
    return _moved(x, _scaling(first + i * step), black=True)


def _scaling(factor: float) -> np.ndarray:
    return np.diag([1 / factor, 1 / factor, 1])


def _tilt(x: np.ndarray, i: int, key: int, middle: int) -> np.ndarray:
    """Turned about the upright and the level axis alike, as seen from as far as the diagonal is long."""
    angle, far = math.radians(i - middle), math.hypot(*x.shape[:2])
    cos, sin = math.cos(angle), math.sin(angle)
    about_y = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    plane = (about_x @ about_y)[:, :2]  # where (x, y, 0) come to lie
    lens = np.array([[far, 0, 0], [0, far, 0], [0, 0, 1]])
    return _moved(x, np.linalg.inv(lens @ np.column_stack([plane, [0, 0, far]])))


def _moved(x: np.ndarray, back: np.ndarray, black: bool = False) -> np.ndarray:
    """x with each pixel taken from where `back` [3, 3] leads, from (x, y, 1) about the image's middle."""
    row, column = grid(x.shape)
    middle = np.array([(x.shape[1] - 1) / 2, (x.shape[0] - 1) / 2, 0])
    place = (np.stack([column, row, np.ones_like(row)], -1) - middle) @ back.T
    left, top = (place[..., axis] / place[..., 2] + middle[axis] for axis in (0, 1))
    out = at_places(x.astype(np.float64), top, left, "mirror")
    if black:
        there = (left > -0.5) & (left < x.shape[1] - 0.5) & (top > -0.5) & (top < x.shape[0] - 0.5)
        out *= there[..., None]
    return out


SEQUENCES = {
    "gaussian_noise": Sequence(_noise(noise.gaussian_noise), (31, 0.03), (31, 0.02), noisy=True),
    "shot_noise": Sequence(_noise(noise.shot_noise), (31, 300), (31, 700), noisy=True),
    "motion_blur": Sequence(_motion_blur, (31, 10, 3, 30, 4), (21, 6, 1.8, 20, 9)),
    "zoom_blur": Sequence(_zoom_blur, (31, 0.004), (31, 0.004)),
    "snow": Sequence(_snow, (31, 3, 14, 4, 4), (31, 2, 10, 2, 4)),
    "brightness": Sequence(_brightness, (31, 0.02), (31, 0.015)),
    "translate": Sequence(_translate, (41, 20), (16, 7)),
    "rotate": Sequence(_rotate, (31, 15), (31, 15)),
    "tilt": Sequence(_tilt, (31, 15), (31, 15)),
    "scale": Sequence(_scale, (31, 0.4, 0.025), (31, 0.7, 0.02)),
    "speckle_noise": Sequence(_noise(noise.speckle_noise), (31, 0.05), (31, 0.05), noisy=True),
    "gaussian_blur": Sequence(_gaussian_blur, (31, 0.25, 0.035, 6), (31, 0.3, 0.015, 7)),
    "spatter": Sequence(
        _spatter, (31, 0.65, 0.27, 3.7, 0.69, (0.05, 0.1, 0.15, 0.7)), (31, 0.6, 0.265, 1.75, 0.7, (0.2, 0.8))
    ),
    "shear": Sequence(_shear, (31, 15), (31, 15)),
}
