"""Weather: snow, frost, fog. arXiv:1903.12261"""

import math
from pathlib import Path

import numpy as np

from tapetum.views.corruptions.frost import texture
from tapetum.views.corruptions.numbers import Numbers
from tapetum.views.corruptions.sampling import streaked, zoomed

STRENGTHS = {
    "snow": {
        "imagenet": (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "cifar": (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
    },
    "frost": {
        "imagenet": ((1, 0.4, 1.1), (0.8, 0.6, 1.1), (0.7, 0.7, 1.1), (0.65, 0.7, 1.1), (0.6, 0.75, 1.1)),
        "cifar": ((1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)),
    },
    "fog": {
        "imagenet": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
        "cifar": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    },
}
GRAY = np.array([0.299, 0.587, 0.114])


def snow(
    x: np.ndarray,
    draws: Numbers,
    mean: float,
    spread: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    share: float,
) -> np.ndarray:
    """Flakes, streaked by the wind and once more turned by half a turn, over a whitened image.

    Flakes are normal noise (`mean`, `spread`), enlarged by `zoom`, nothing below `threshold`; the wind has
    the `radius` and `sigma` of a motion blur; a `share` of the image stays as it was.
    """
    layer = flakes(x.shape[:2], draws, mean, spread, zoom, threshold)
    return snowed(x, layer, radius, sigma, draws.uniform(-135, -45), share)


def flakes(
    size: tuple[int, ...], draws: Numbers, mean: float, spread: float, zoom: float, threshold: float
) -> np.ndarray:
    """How white flakes are, in [0, 1], before there is wind: [H, W] or a little more."""
    layer = zoomed(draws.normal(mean, spread, size), zoom)
    return np.where(layer < threshold, 0, layer.clip(0, 1))


def snowed(
    x: np.ndarray, layer: np.ndarray, radius: int, sigma: float, angle: float, share: float
) -> np.ndarray:
    """An image, whitened all but a `share`, and flakes in a wind towards `angle`, and against it."""
    layer = streaked(layer, radius, sigma, angle)[: x.shape[0], : x.shape[1]]
    layer = (layer * 255).round()[..., None] / 255
    pixels = (x / 255).astype(np.float32)
    white = np.maximum(pixels, (pixels @ GRAY)[..., None] * 1.5 + 0.5)
    return (share * pixels + (1 - share) * white + layer + layer[::-1, ::-1]) * 255


def frost(
    x: np.ndarray, draws: Numbers, share: float, ice: float, scale: float, *, photos: tuple[Path, ...] = ()
) -> np.ndarray:
    """A `share` of the image and `ice` times a random part of a texture of frost, or of photographs of it at
    `scale`."""
    return share * x + ice * texture(x.shape[:2], draws, photos, scale)


def fog(x: np.ndarray, draws: Numbers, thick: float, decay: float) -> np.ndarray:
    """A plasma fractal, `thick` times, whose finer details fall by `decay` for each halving of their size."""
    side = 2 ** math.ceil(math.log2(max(x.shape)))
    pixels = x / 255
    most = pixels.max()
    layer = plasma(side, decay, draws)[: x.shape[0], : x.shape[1], None]
    return (pixels + thick * layer) * most / (most + thick) * 255


def plasma(side: int, decay: float, draws: Numbers) -> np.ndarray:
    """Midpoints displaced on a torus [side, side], a power of 2: heights in [0, 1] (Fournier et al. 1982).

    At each halving of the step the squares' middles, then the middles of their sides, become the mean of
    their four neighbours and an even displacement.
    """
    heights = np.zeros((side, side))
    step, most = side, 100.0
    while step > 1:
        half = step // 2
        corner = heights[::step, ::step]  # views: what is written below is seen here
        below = corner + np.roll(corner, -1, 0)
        centre = below + np.roll(below, -1, 1)
        heights[half::step, half::step] = centre / 4 + most * draws.uniform(-most, most, corner.shape)
        centre = heights[half::step, half::step]
        across = centre + np.roll(centre, 1, 0) + corner + np.roll(corner, -1, 1)
        heights[::step, half::step] = across / 4 + most * draws.uniform(-most, most, corner.shape)
        upright = centre + np.roll(centre, 1, 1) + corner + np.roll(corner, -1, 0)
        heights[half::step, ::step] = upright / 4 + most * draws.uniform(-most, most, corner.shape)
        step, most = half, most / decay
    heights -= heights.min()
    return heights / heights.max()
