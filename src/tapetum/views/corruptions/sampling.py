"""What corruptions share: smoothing, stretching and moving of images [H, W] or [H, W, C] in floats."""

import math
from functools import lru_cache
from typing import Literal

import numpy as np

Outside = Literal["edge", "mirror", "reflect"]  # aaa|abc, cba|abc (the outermost twice), dcb|abc


def inside(index: np.ndarray, n: int, outside: Outside) -> np.ndarray:
    """Whole numbers -> places in range(n), those beyond continued as `outside` says."""
    if outside == "edge" or n == 1:
        return index.clip(0, n - 1)
    period = 2 * n if outside == "mirror" else 2 * n - 2
    index = index % period
    return np.minimum(index, period - int(outside == "mirror") - index)


def along(matrix: np.ndarray, x: np.ndarray, axis: int) -> np.ndarray:
    """A matrix [m, n] applied along one axis of x, which has n places there."""
    return np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)


def gaussian(
    x: np.ndarray,
    sigma: float | tuple[float, float],
    truncate: float = 4.0,
    outside: Outside = "edge",
) -> np.ndarray:
    """x smoothed by a Gaussian of standard deviation `sigma` in pixels (of rows, of columns), cut off at
    `truncate` of them."""
    pair = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    for axis, s in enumerate(pair):
        if int(truncate * s + 0.5):
            x = along(_smoothing(x.shape[axis], float(s), truncate, outside), x, axis)
    return x


@lru_cache(64)
def _smoothing(n: int, sigma: float, truncate: float, outside: Outside) -> np.ndarray:
    """[n, n]: each row the weights of a Gaussian about one place."""
    reach = int(truncate * sigma + 0.5)
    offset = np.arange(-reach, reach + 1)
    weight = np.exp(-0.5 * (offset / sigma) ** 2)
    return _summed(inside(np.arange(n)[:, None] + offset, n, outside), weight / weight.sum(), n)


def _summed(index: np.ndarray, weight: np.ndarray, n: int) -> np.ndarray:
    """Places [m, k] with weights, broadcast to [m, k] -> the matrix [m, n] that sums them."""
    matrix = np.zeros((len(index), n))
    np.add.at(matrix, (np.arange(len(index))[:, None], index), np.broadcast_to(weight, index.shape))
    return matrix


def zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    """The middle of x, stretched by `factor` to the size of x or a little more, linearly between pixels.

    As `scipy.ndimage.zoom`, which at a few sizes makes the last row and column black by an error of rounding;
    this does not.
    """
    for axis in (0, 1):
        n = x.shape[axis]
        kept = math.ceil(n / factor)
        start = (n - kept) // 2
        x = np.take(x, range(start, start + kept), axis)
        x = along(_stretch(kept, round(kept * factor)).astype(x.dtype), x, axis)
    return x


@lru_cache(64)
def _stretch(n: int, out: int) -> np.ndarray:
    """[out, n]: linear interpolation at even steps from the first place to the last."""
    at = np.arange(out) * ((n - 1) / max(out - 1, 1))
    low = np.floor(at).astype(int).clip(0, max(n - 2, 0))
    share = at - low
    return _summed(np.stack([low, (low + 1).clip(max=n - 1)], 1), np.stack([1 - share, share], 1), n)


def at_places(x: np.ndarray, row: np.ndarray, column: np.ndarray, outside: Outside) -> np.ndarray:
    """x [H, W, C] at fractional places [h, w], linearly between pixels: [h, w, C]."""
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    down, right = (row - top)[..., None], (column - left)[..., None]
    rows = [inside(top + i, x.shape[0], outside) for i in (0, 1)]
    columns = [inside(left + i, x.shape[1], outside) for i in (0, 1)]
    upper = x[rows[0], columns[0]] * (1 - right) + x[rows[0], columns[1]] * right
    lower = x[rows[1], columns[0]] * (1 - right) + x[rows[1], columns[1]] * right
    return upper * (1 - down) + lower * down


def grid(size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each pixel, [H, W] each."""
    row, column = np.mgrid[: size[0], : size[1]].astype(np.float64)
    return row, column


def correlate(x: np.ndarray, kernel: np.ndarray, outside: Outside = "reflect") -> np.ndarray:
    """x [H, W] or [H, W, C] correlated with a kernel of odd sides, by Fourier transforms in doubles."""
    (h, w), reach = x.shape[:2], kernel.shape[0] // 2
    rows, columns = (inside(np.arange(-reach, n + reach), n, outside) for n in (h, w))
    padded = x[rows][:, columns]
    size = (_quick(padded.shape[0]), _quick(padded.shape[1]))
    spectrum = np.fft.rfft2(padded, size, (0, 1))
    turned = np.conj(np.fft.rfft2(kernel, size))
    turned = turned.reshape(turned.shape + (1,) * (x.ndim - 2))
    return np.fft.irfft2(spectrum * turned, size, (0, 1))[:h, :w]


def _quick(n: int) -> int:
    """The next length of factors 2, 3 and 5 alone."""
    while _rest(n) > 1:
        n += 1
    return n


def _rest(n: int) -> int:
    for factor in (2, 3, 5):
        while n % factor == 0:
            n //= factor
    return n


def streaked(x: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """x as if it had moved by up to 2 `radius` pixels towards `angle` (degrees), ever fainter as the half of
    a Gaussian of `sigma`; whole steps, ending where the way leaves the image."""
    length = 2 * radius + 1
    weight = np.exp(-(np.arange(length) ** 2) / (2 * sigma**2))
    weight /= weight.sum()
    down, right = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    steps = [(math.ceil(i * down - 0.5), math.ceil(i * right - 0.5)) for i in range(length)]
    reach = max(abs(v) for step in steps for v in step)
    padded = np.pad(x.astype(np.float64), [(reach, reach)] * 2 + [(0, 0)] * (x.ndim - 2), mode="edge")
    out = np.zeros(x.shape)
    for w, (dy, dx) in zip(weight, steps):
        if abs(dy) >= x.shape[0] or abs(dx) >= x.shape[1]:
            break
        out += w * padded[reach + dy : reach + dy + x.shape[0], reach + dx : reach + dx + x.shape[1]]
    return out
