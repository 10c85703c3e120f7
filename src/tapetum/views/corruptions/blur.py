"""Blur: defocus, frosted glass, motion, zoom, and Gaussian. arXiv:1903.12261"""

import numpy as np

from tapetum.views.corruptions.numbers import Numbers
from tapetum.views.corruptions.sampling import correlate, gaussian, streaked, zoomed

STRENGTHS = {
    "defocus_blur": {
        "imagenet": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "cifar": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    },
    "glass_blur": {
        "imagenet": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        "cifar": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    },
    "motion_blur": {
        "imagenet": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "cifar": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    },
    "zoom_blur": {
        "imagenet": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        "cifar": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    },
    "gaussian_blur": {"imagenet": (1, 2, 3, 4, 6), "cifar": (0.4, 0.6, 0.7, 0.8, 1)},
}


def defocus_blur(x: np.ndarray, draws: Numbers, radius: float, soft: float) -> np.ndarray:
    """The mean over a disk of `radius` pixels whose rim is softened by a Gaussian of `soft`."""
    return correlate(x / 255, _disk(radius, soft)) * 255


def _disk(radius: float, soft: float) -> np.ndarray:
    """[K, K], softened by a Gaussian of 3 or 5 taps."""
    side, taps = (8, 1) if radius <= 8 else (int(radius), 2)
    square = np.arange(-side, side + 1) ** 2
    disk = (square[:, None] + square <= radius**2).astype(np.float32)
    weight = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * soft**2))
    weight /= weight.sum()
    return correlate(disk / disk.sum(), weight[:, None] * weight).astype(np.float32)  # as the reference


def glass_blur(x: np.ndarray, draws: Numbers, sigma: float, reach: int, times: int) -> np.ndarray:
    """Smoothed; then, from the last pixel to the first, each becomes a neighbour at most `reach` away, all
    of that `times`; and smoothed again.

    The reference means to exchange pixels, but its exchange of two views of one array copies one of them,
    and so do the published images.
    """
    x = (gaussian(x / 255, sigma) * 255).astype(np.uint8)
    h, w = x.shape[:2]
    if min(h, w) > 2 * reach:
        rows, columns = np.arange(h - reach, reach, -1), np.arange(w - reach, reach, -1)
        place = (rows[:, None] * w + columns).ravel()
        for _ in range(times):
            move = draws.integers(-reach, reach, size=(len(place), 2))  # columns, then rows
            origin = _origins(place, place + move[:, 1] * w + move[:, 0], h * w)
            x = x.reshape(h * w, -1)[origin].reshape(x.shape)
    return gaussian(x / 255, sigma) * 255


def _origins(place: np.ndarray, taken: np.ndarray, n: int) -> np.ndarray:
    """Where each of n pixels comes from when `place`, one after the other, becomes what `taken` is by then.

    What was changed before is looked up there in turn; doubling the steps finds all ends in a few rounds.
    """
    turn = np.full(n, len(place))
    turn[place] = np.arange(len(place))
    origin, follow = np.arange(n), np.arange(n)
    changed = turn[taken] < turn[place]
    origin[place] = taken  # right for what was not changed before
    follow[place[changed]] = taken[changed]  # else ask there
    while not np.array_equal(follow, further := follow[follow]):
        follow = further
    return origin[follow]


def motion_blur(x: np.ndarray, draws: Numbers, radius: int, sigma: float) -> np.ndarray:
    """Moved towards an angle between -45 and 45 degrees.

    As in the package imagecorruptions; ImageNet-C itself used ImageMagick's motion blur, which is alike.
    """
    return streaked(x, radius, sigma, draws.uniform(-45, 45))


def zoom_blur(x: np.ndarray, draws: Numbers, most: float, step: float) -> np.ndarray:
    """The mean of the image and of its middle, enlarged by 1, 1 + `step`, ... below `most`."""
    pixels = (x / 255).astype(np.float32)
    factors = np.arange(1, most, step)
    out = pixels.copy()
    for factor in factors:
        out += zoomed(pixels, factor)[: x.shape[0], : x.shape[1]]
    return out / np.float32(len(factors) + 1) * 255


def gaussian_blur(x: np.ndarray, draws: Numbers, sigma: float) -> np.ndarray:
    """Smoothed by a Gaussian of `sigma` pixels."""
    return gaussian(x / 255, sigma) * 255
