"""Compiled kernels (numba) that make one view of one image while it stays in the processor's cache.

Each image is computed by itself, so its bits depend neither on the batch nor on its place in it. Images are
planar [C, S, S] float32 between the steps. All constants are float32: a plain 0.5 would make numba compute in
double precision.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

JITTER, GRAY, SOLARISE, BLUR = range(4)

_f, _u = np.float32, np.uint64  # unsigned indices need no look at whether they are negative
_0, _1, _2, _3, _4, _5, _6, _HALF = (_f(v) for v in (0, 1, 2, 3, 4, 5, 6, 0.5))
_R, _G, _B = _f(0.299), _f(0.587), _f(0.114)
_TINY, _EDGE, _255 = _f(1e-8), _f(1e-3), _f(1 / 255)
_LINES = 4  # that are sampled at once, since they share where to look
_BLOCK = 2048  # numbers that stay in the first cache
_LEAST = _f(1e-7)  # taps of a blur that give less are left out

# No other liberties: what numba has just compiled and the same from its cache would take them differently.
_compiled = numba.njit(nogil=True, cache=True, fastmath={"nnan", "ninf", "nsz"})


def _jit(function: Callable) -> Any:
    """Compiled when first called, and kept on the disk; where that is full it is compiled each time."""
    made: Any = _compiled(function)
    save = made._cache.save_overload

    def kept(*overload: Any) -> None:
        with contextlib.suppress(OSError):
            save(*overload)

    made._cache.save_overload = kept
    return made


@_jit
def _reflect(i: int, side: int) -> int:
    """A pixel outside the image -> the one it is mirrored from."""
    if i < 0:
        i = -i
    if i >= side:
        i = 2 * (side - 1) - i
    return min(max(i, 0), side - 1)


@_jit
def _taps(start, stretch, side, leaves, index, weight):
    """Which pixels (index) give how much (weight) to each output pixel, see sample.weights: [taps, S] each;
    the weights of missing taps are 0. Gives the number of taps."""
    most, out = index.shape
    start, stretch = start * _f(side), stretch * _f(side)
    width = max(abs(stretch) / _f(out), _1)
    low = min(start, start + stretch) + _EDGE - _1
    high = max(start, start + stretch) - _EDGE
    found = 0
    for o in range(out):
        centre = start + stretch * ((_f(o) + _HALF) / _f(out)) - _HALF
        first, last = int(np.ceil(centre - width)), int(np.floor(centre + width))
        total, n = _0, 0
        for pixel in range(first, last + 1):
            inside = leaves or (0 <= pixel < side)
            w = _1 - abs(_f(pixel) - centre) / width
            if inside and low < _f(pixel) < high and w > _0 and n < most:
                index[n, o] = _reflect(pixel, side)
                weight[n, o] = w
                total += w
                n += 1
        for k in range(n):
            weight[k, o] /= total
        for k in range(n, most):
            index[k, o], weight[k, o] = index[0, o], _0
        found = max(found, n)
    return found


@_jit
def _sample(canvas, box, leaves, across, down, rows, lines):
    """A box of a canvas [C, R, R] uint8 -> lines [C * S, S] in [0, 1]; a few more are overwritten."""
    channels, side, _ = canvas.shape
    out = lines.shape[1]
    xi, xw = across
    yi, yw = down
    wide = _taps(box[0], box[1], side, leaves, xi, xw)
    tall = _taps(box[2], box[3], side, leaves, yi, yw)
    low, high = _u(side), _u(0)
    for k in range(wide):
        for o in range(out):
            low, high = min(low, xi[k, o]), max(high, xi[k, o] + _u(1))
    for first in range(0, channels * out, _LINES):
        for q in range(_LINES):
            line = min(first + q, channels * out - 1)
            c, y, row = line // out, line % out, rows[q]
            for x in range(high - low):
                row[low + x] = _0
            for t in range(tall):
                share, source = yw[t, y] * _255, yi[t, y]
                if share != _0:
                    for x in range(high - low):
                        row[low + x] += share * _f(canvas[c, source, low + x])
        _gather(rows, wide, xi, xw, lines, first)


@_jit
def _gather(rows, taps, index, weight, lines, first):
    """Weighted sums of the pixels of four rows into four lines; the usual numbers of taps are written out."""
    a, b, c, d = rows[0], rows[1], rows[2], rows[3]
    e, f, g, h = lines[first], lines[first + 1], lines[first + 2], lines[first + 3]
    i, j, k = index[0], index[1], index[2]
    u, v, w = weight[0], weight[1], weight[2]
    size = len(e)
    if taps <= 2:
        for x in range(size):
            p, q, m, n = i[x], j[x], u[x], v[x]
            e[x] = m * a[p] + n * a[q]
            f[x] = m * b[p] + n * b[q]
            g[x] = m * c[p] + n * c[q]
            h[x] = m * d[p] + n * d[q]
    else:
        for x in range(size):
            p, q, r, m, n, o = i[x], j[x], k[x], u[x], v[x], w[x]
            e[x] = m * a[p] + n * a[q] + o * a[r]
            f[x] = m * b[p] + n * b[q] + o * b[r]
            g[x] = m * c[p] + n * c[q] + o * c[r]
            h[x] = m * d[p] + n * d[q] + o * d[r]
    for t in range(3, taps):
        i, u = index[t], weight[t]
        for x in range(size):
            p, m = i[x], u[x]
            e[x] += m * a[p]
            f[x] += m * b[p]
            g[x] += m * c[p]
            h[x] += m * d[p]


@_jit
def _clip(v):
    return min(max(v, _0), _1)


@_jit
def _jitter(a, brightness, contrast, saturation, hue, sums):
    side = a.shape[1]
    n = side * side
    r, g, b = a[0].reshape(n), a[1].reshape(n), a[2].reshape(n)
    for i in range(n):
        r[i], g[i], b[i] = _clip(r[i] * brightness), _clip(g[i] * brightness), _clip(b[i] * brightness)
    sums[:] = _0
    for y in range(side):
        for x in range(side):
            sums[x] += _R * a[0, y, x] + _G * a[1, y, x] + _B * a[2, y, x]
    total = _0
    for x in range(side):
        total += sums[x]
    mean = total / _f(n) * (_1 - contrast)
    rest = _1 - saturation
    for i in range(n):
        u = _clip(r[i] * contrast + mean)
        v = _clip(g[i] * contrast + mean)
        w = _clip(b[i] * contrast + mean)
        luma = (_R * u + _G * v + _B * w) * rest
        r[i], g[i], b[i] = (
            _clip(u * saturation + luma),
            _clip(v * saturation + luma),
            _clip(w * saturation + luma),
        )
    if hue != _0:
        for i in range(n):
            u, v, w = r[i], g[i], b[i]
            value, low = max(u, v, w), min(u, v, w)
            chroma = value - low
            per = _1 / max(chroma, _TINY)
            red, green, blue = (v - w) * per, (w - u) * per + _2, (u - v) * per + _4
            sector = (red if value == u else (green if value == v else blue)) + _6 * hue
            r[i] = value - chroma * _ramp(sector + _5)
            g[i] = value - chroma * _ramp(sector + _3)
            b[i] = value - chroma * _ramp(sector + _1)


@_jit
def _ramp(k):
    """min(k, 4 - k) of k modulo 6, in [0, 1]."""
    k -= _6 * np.floor(k * (_1 / _6))
    return _clip(_2 - abs(k - _2))


@_jit
def _gray(a):
    n = a.shape[1] * a.shape[2]
    r, g, b = a[0].reshape(n), a[1].reshape(n), a[2].reshape(n)
    for i in range(n):
        luma = _R * r[i] + _G * g[i] + _B * b[i]
        r[i], g[i], b[i] = luma, luma, luma


@_jit
def _solarise(a, threshold):
    flat = a.reshape(a.size)
    for i in range(a.size):
        flat[i] = _1 - flat[i] if flat[i] >= threshold else flat[i]


@_jit
def _smooth(source, target, taps, step, first, last):
    """A blur of flat numbers along an axis whose pixels lie `step` apart, in blocks, two taps at once."""
    for start in range(first, last, _BLOCK):
        end = min(start + _BLOCK, last)
        into, here, w = target[start:end], source[start:end], taps[0]
        for x in range(end - start):
            into[x] = w * here[x]
        for k in range(1, len(taps), 2):
            near, far = k * step, (k + 1) * step
            before, after = source[start - near : end - near], source[start + near : end + near]
            left, right = source[start - far : end - far], source[start + far : end + far]
            v, w = taps[k], taps[k + 1]
            for x in range(end - start):
                into[x] += v * (before[x] + after[x]) + w * (left[x] + right[x])


@_jit
def _blur(a, sigma, reach, other, padded):
    """Gaussian blur of a [C, S, S], mirrored at its edges; other and padded [> 9 S * S] are scratch."""
    channels, side, _ = a.shape
    taps = np.zeros(reach + 3, np.float32)
    total = _0
    for k in range(reach + 1):
        taps[k] = np.exp(-_HALF * (_f(k) / sigma) * (_f(k) / sigma))
        total += taps[k] if k == 0 else _2 * taps[k]
    while reach > 0 and taps[reach] < _LEAST * total:
        taps[reach] = _0
        reach -= 1
    reach += reach % 2
    taps = taps[: reach + 1] / total
    pitch = side + 2 * reach
    for c in range(channels):
        for y in range(-reach, side + reach):
            at, source = (y + reach) * pitch + reach, a[c, _reflect(y, side)]
            middle = padded[at : at + side]
            for x in range(side):
                middle[x] = source[x]
            for x in range(1, reach + 1):
                padded[at - x] = source[_reflect(-x, side)]
                padded[at + side - 1 + x] = source[_reflect(side - 1 + x, side)]
        _smooth(padded, other, taps, pitch, reach * pitch, (side + reach) * pitch)
        _smooth(other, padded, taps, 1, reach * pitch + reach, (side + reach) * pitch - reach)
        for y in range(side):
            at, into = (y + reach) * pitch + reach, a[c, y]
            middle = padded[at : at + side]
            for x in range(side):
                into[x] = middle[x]


@_jit
def render(pixels, boxes, leaves, kinds, given, out, first, last):
    """Views of images `first` to `last`.

    Args:
        pixels: [B, C, R, R] uint8.
        boxes: [B, 4] float32: left, width, top, height in shares of the canvas; negative ones are mirrored.
        leaves: whether boxes may reach outside the canvas.
        kinds: [K] the steps in their order.
        given: [K, B, 5] float32: their parameters, the first of which says whether the step is done.
        out: [B, S, S, C] float32, written.
    """
    _, channels, side, _ = pixels.shape
    size = out.shape[1]
    lines = np.empty((channels * size + _LINES, size), np.float32)
    a = lines[: channels * size].reshape(channels, size, size)
    other, padded = np.empty(9 * size * size + 9, np.float32), np.empty(9 * size * size + 9, np.float32)
    rows, sums = np.empty((_LINES, side), np.float32), np.empty(size, np.float32)
    widest = max(np.abs(boxes[first:last, 1]).max(), np.abs(boxes[first:last, 3]).max())
    most = 2 * int(max(widest * side / size, 1)) + 4  # taps of an output pixel
    across = (np.empty((most, size), np.uint64), np.empty((most, size), np.float32))
    down = (np.empty((most, size), np.uint64), np.empty((most, size), np.float32))
    for i in range(first, last):
        _sample(pixels[i], boxes[i], leaves, across, down, rows, lines)
        for k in range(len(kinds)):
            p = given[k, i]
            if p[0] == _0:
                continue
            if kinds[k] == JITTER:
                _jitter(a, p[1], p[2], p[3], p[4], sums)
            elif kinds[k] == GRAY:
                _gray(a)
            elif kinds[k] == SOLARISE:
                _solarise(a, p[1])
            elif kinds[k] == BLUR:
                _blur(a, p[1], int(p[2]), other, padded)
        for y in range(size):
            for x in range(size):
                for c in range(channels):
                    out[i, y, x, c] = a[c, y, x]
