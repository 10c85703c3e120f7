"""Spatter: drops of water that catch the light, or mud. arXiv:1903.12261"""

import numpy as np

from tapetum.views.corruptions.numbers import Numbers
from tapetum.views.corruptions.sampling import correlate, gaussian, inside

STRENGTHS = {
    "spatter": {
        "imagenet": (
            (0.65, 0.3, 4, 0.69, 0.6, False),
            (0.65, 0.3, 3, 0.68, 0.6, False),
            (0.65, 0.3, 2, 0.68, 0.5, False),
            (0.65, 0.3, 1, 0.65, 1.5, True),
            (0.67, 0.4, 1, 0.65, 1.5, True),
        ),
        "cifar": (
            (0.62, 0.1, 0.7, 0.7, 0.5, False),
            (0.65, 0.1, 0.8, 0.7, 0.5, False),
            (0.65, 0.3, 1, 0.69, 0.5, False),
            (0.65, 0.1, 0.7, 0.69, 0.6, True),
            (0.65, 0.1, 0.5, 0.68, 0.6, True),
        ),
    },
}
TURQUOISE, BROWN = np.array([175, 238, 238]) / 255, np.array([63, 42, 20]) / 255
FIXED = 2**16  # distances are counted in these parts of a pixel
TAN = 13573  # the tangent of 22.5 degrees in 2**15 parts
BEVEL = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
# Steps to neighbours and their lengths (Borgefors 1986): straight, diagonal, and of a knight.
STEPS = [(dy, dx, FIXED) for dy, dx in ((0, 1), (1, 0))]
STEPS += [(1, dx, 91750) for dx in (-1, 1)]
STEPS += [(dy, dx, 143976) for dy, dx in ((1, 2), (1, -2), (2, 1), (2, -1))]


def spatter(
    x: np.ndarray,
    draws: Numbers,
    mean: float,
    spread: float,
    sigma: float,
    threshold: float,
    amount: float,
    mud: bool,
) -> np.ndarray:
    """Drops are where normal noise (`mean`, `spread`), smoothed by `sigma`, reaches the `threshold`: of
    water, `amount` bright, or of mud with rims that are smoothed by `amount`."""
    drops = liquid(x.shape[:2], draws, mean, spread, sigma, threshold)
    if not mud:
        return (x / 255 + water(drops, amount)[..., None] * TURQUOISE) * 255
    cover = gaussian((drops > threshold).astype(np.float64), amount)[..., None]
    cover = np.where(cover < 0.8, 0, cover)
    return (x / 255 * (1 - cover) + cover * BROWN) * 255


def liquid(
    size: tuple[int, int], draws: Numbers, mean: float, spread: float, sigma: float, threshold: float
) -> np.ndarray:
    """The thickness of a liquid, [H, W]; 0 where it stays below the threshold."""
    layer = gaussian(draws.normal(mean, spread, size), sigma)
    return np.where(layer < threshold, 0, layer)


def water(drops: np.ndarray, amount: float) -> np.ndarray:
    """How bright drops of this thickness [H, W] shine: bevelled by the distance from their rims."""
    thick = (drops * 255).astype(np.uint8)
    far = box(distance(edges(thick), 20)).astype(np.uint8)
    bevel = correlate(equalised(far).astype(np.float64), BEVEL.astype(np.float64)).round().clip(0, 255)
    shine = thick * box(bevel).round()
    return shine * (amount / shine.max()) if shine.max() > 0 else shine


def box(x: np.ndarray) -> np.ndarray:
    """The mean over 3 x 3 pixels."""
    return correlate(x.astype(np.float64), np.full((3, 3), 1 / 9)).round(9)


def equalised(x: np.ndarray) -> np.ndarray:
    """uint8 [H, W] with levels spread evenly over the range."""
    count = np.bincount(x.ravel(), minlength=256)
    first = int(np.flatnonzero(count)[0])
    if count[first] == x.size:
        return x
    count[: first + 1] = 0
    return (count.cumsum() * (255 / count.sum())).round().clip(0, 255).astype(np.uint8)[x]


def distance(edge: np.ndarray, most: float) -> np.ndarray:
    """Pixels' distances from the nearest edge (bool [H, W]) in straight, diagonal and knight's steps, up to
    `most` where it stays."""
    reach = 2
    found = np.full(tuple(n + 2 * reach for n in edge.shape), int(most * FIXED), np.int64)
    within = found[reach:-reach, reach:-reach]
    within[edge] = 0
    while True:
        before = within.copy()
        for dy, dx, length in STEPS:
            for y, x in ((dy, dx), (-dy, -dx)):
                near = found[reach + y : reach + y + edge.shape[0], reach + x : reach + x + edge.shape[1]]
                np.minimum(within, near + length, out=within)
        if np.array_equal(before, within):
            return within / FIXED


def edges(x: np.ndarray, low: int = 50, high: int = 150) -> np.ndarray:
    """Canny's edges of uint8 [H, W], bool: the ridges of Sobel's gradient |dx| + |dy| above `low` that hang
    together with one above `high` (Canny 1986)."""
    down, right = _sobel(x, 0), _sobel(x, 1)
    strength = np.pad(abs(down) + abs(right), 1)
    h, w = x.shape

    def at(dy: int, dx: int) -> np.ndarray:
        return strength[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]

    here, steep = at(0, 0), abs(down) * 2**15
    flat = abs(right) * TAN
    sideways = (here > at(0, -1)) & (here >= at(0, 1))
    upright = (here > at(-1, 0)) & (here >= at(1, 0))
    falling = (here > at(-1, -1)) & (here > at(1, 1))
    rising = (here > at(-1, 1)) & (here > at(1, -1))
    slanted = np.where((right ^ down) < 0, rising, falling)
    ridge = np.where(steep < flat, sideways, np.where(steep > flat + abs(right) * 2**16, upright, slanted))
    ridge &= here > low
    return _joined(ridge & (here > high), ridge)


def _sobel(x: np.ndarray, axis: int) -> np.ndarray:
    """Sobel's derivative of [H, W] along an axis, int64; edges repeat."""
    x = np.pad(x.astype(np.int64), 1, mode="edge")
    x = np.moveaxis(x, axis, 0)
    step = x[2:] - x[:-2]
    return np.moveaxis(step[:, :-2] + 2 * step[:, 1:-1] + step[:, 2:], 0, axis)


def _joined(seed: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """What of `allowed` hangs together with `seed` over any of the eight neighbours."""
    (h, w), found = seed.shape, seed
    while True:
        rows = np.maximum.reduce([found[inside(np.arange(h) + i, h, "edge")] for i in (-1, 0, 1)])
        grown = np.maximum.reduce([rows[:, inside(np.arange(w) + i, w, "edge")] for i in (-1, 0, 1)])
        grown = (grown & allowed) | found
        if np.array_equal(grown, found):
            return found
        found = grown
