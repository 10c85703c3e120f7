"""Textures of frost: made from random crystals, or parts of somebody's photographs of frosted panes."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from tapetum.data.decode import decode
from tapetum.views.corruptions.numbers import Numbers
from tapetum.views.corruptions.sampling import along, gaussian, inside, streaked

VERSION = 1  # raise it when crystals come out otherwise than before
PHOTOS = 5  # the published code has six and takes one of the first five
CRYSTALS, WAYS = 40, 8  # how many crystals an image has, in how many directions they grow
# Mean colours and spreads about those of the five photographs that ImageNet-C took parts of.
PANES = (
    ((80, 150, 165), 18),
    ((200, 205, 215), 22),
    ((200, 205, 215), 22),
    ((140, 155, 165), 28),
    ((110, 125, 135), 43),
)


def texture(size: tuple[int, ...], draws: Numbers, photos: tuple[Path, ...], scale: float) -> np.ndarray:
    """[H, W, 3] in [0, 255]: of `photos` at `scale` where there are any, else crystals."""
    if not photos:
        return crystals(size, draws)
    photo = photos[int(draws.integers(0, len(photos)))]
    pane = _pane(photo, scale, size[0], size[1])
    top = int(draws.integers(0, pane.shape[0] - size[0]))
    left = int(draws.integers(0, pane.shape[1] - size[1]))
    return pane[top : top + size[0], left : left + size[1]]


@lru_cache(16)
def _pane(photo: Path, scale: float, height: int, width: int) -> np.ndarray:
    """A photograph at `scale`, or larger where a part of this size would not fit."""
    pixels = decode(photo)
    scale = max(scale, 1.1 * max(height / pixels.shape[0], width / pixels.shape[1]))
    out = pixels.astype(np.float64)
    for axis in (0, 1):
        out = along(_resizing(pixels.shape[axis], int(np.ceil(pixels.shape[axis] * scale))), out, axis)
    return out.round().clip(0, 255)


def _resizing(n: int, out: int) -> np.ndarray:
    """[out, n]: cubic interpolation (a = -0.75) to more pixels, linear to fewer; no smoothing before."""
    at = (np.arange(out) + 0.5) * (n / out) - 0.5
    low = np.floor(at).astype(int)
    matrix = np.zeros((out, n))
    for offset in (-1, 0, 1, 2):
        way = abs(at - low - offset)
        near, far = 1.25 * way**3 - 2.25 * way**2 + 1, -0.75 * (way**3 - 5 * way**2 + 8 * way - 4)
        weight = np.where(way <= 1, near, far) if out >= n else (1 - way).clip(min=0)
        np.add.at(matrix, (np.arange(out), inside(low + offset, n, "edge")), weight)
    return matrix


def crystals(size: tuple[int, ...], draws: Numbers) -> np.ndarray:
    """Feathers of ice [H, W, 3] in [0, 255]: noise streaked along the direction of the nearest crystal, with
    barbs at 45 degrees to it, in the colour of one of the panes."""
    h, w = size[:2]
    side = max(h, w)
    colour, spread = PANES[int(draws.integers(0, len(PANES)))]
    seeds = draws.uniform(0, side, (CRYSTALS, 2))
    ways = draws.integers(0, WAYS, CRYSTALS)
    radius = max(2, side // 24)
    margin = 2 * radius  # as far as a streak reaches, so that none begins at the border
    bumps = draws.normal(size=(h + 2 * margin, w + 2 * margin))
    streaks = (streaked(bumps, radius, radius, 180 / WAYS * i) for i in range(WAYS))
    layers = np.stack([_even(s[margin : margin + h, margin : margin + w]) for s in streaks])  # [WAYS, H, W]
    row, column = np.mgrid[:h, :w].astype(np.float32)
    far = np.stack([(row - y) ** 2 + (column - x) ** 2 for y, x in seeds.astype(np.float32)])  # [K, H, W]
    first, second = np.sqrt(np.partition(far, 1, axis=0)[:2])
    way = ways[far.argmin(0)]  # [H, W]
    ridge = np.exp(-(second - first) / (side / 40))  # where two crystals meet
    feather = [np.take_along_axis(layers, ((way + turn) % WAYS)[None], 0)[0] for turn in (0, 2)]
    needles = _even(np.maximum(feather[0], 0.8 * feather[1]).clip(min=0) ** 1.5 + 0.7 * ridge)
    thick = _even(gaussian(bumps, side / 12)[margin : margin + h, margin : margin + w])
    relief = 0.8 * gaussian(needles, side / 300) + 0.6 * thick
    return (np.array(colour) + spread * relief[..., None]).clip(0, 255)


def _even(x: np.ndarray) -> np.ndarray:
    """With mean 0 and standard deviation 1."""
    return (x - x.mean()) / max(x.std(), 1e-9)
