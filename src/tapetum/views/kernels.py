"""Compiled kernels (numba) that make one view of one image while it stays in the processor's cache.

Each image is computed by itself, so its bits depend neither on the batch nor on its place in it. Images are
planar [C, S, S] float32 between the steps. All constants are float32: a plain 0.5 would make numba compute in
double precision.
"""

import numba
import numpy as np

COPY, JITTER, GRAY, SOLARISE, BLUR = range(5)

_f = np.float32
_0, _1, _2, _3, _4, _5, _6, _HALF = (_f(v) for v in (0, 1, 2, 3, 4, 5, 6, 0.5))
_R, _G, _B = _f(0.299), _f(0.587), _f(0.114)
_TINY, _EDGE, _255 = _f(1e-8), _f(1e-3), _f(1 / 255)
_LEAST = _f(1e-7)  # taps of a blur that give less are left out

_jit = numba.njit(nogil=True, cache=True, fastmath={"nnan", "ninf", "nsz", "arcp", "contract", "reassoc"})


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
    """Which pixels (index) give how much (weight) to each output pixel: see sample.weights. [taps, S] each; the
    weights of missing taps are 0. Gives the number of taps."""
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
def _sample(canvas, box, leaves, across, down, row, a):
    """A box of a canvas [C, R, R] uint8 -> a [C, S, S] in [0, 1]."""
    channels, side, _ = canvas.shape
    out = a.shape[1]
    xi, xw = across
    yi, yw = down
    taps = _taps(box[0], box[1], side, leaves, xi, xw)
    rows = _taps(box[2], box[3], side, leaves, yi, yw)
    low, high = side, 0
    for k in range(taps):
        for o in range(out):
            low, high = min(low, int(xi[k, o])), max(high, int(xi[k, o]) + 1)
    part = row[low:high]
    for c in range(channels):
        for y in range(out):
            part[:] = _0
            for k in range(rows):
                w = yw[k, y] * _255
                source = canvas[c, yi[k, y], low:high]
                for x in range(high - low):
                    part[x] += w * _f(source[x])
            _gather(row, taps, xi, xw, a[c, y])


@_jit
def _gather(row, taps, index, weight, into):
    """Weighted sums of a row's pixels; the usual numbers of taps are written out, for speed."""
    i, j, k = index[0], index[1], index[2]
    u, v, w = weight[0], weight[1], weight[2]
    if taps <= 2:
        for x in range(len(into)):
            into[x] = u[x] * row[i[x]] + v[x] * row[j[x]]
    else:
        for x in range(len(into)):
            into[x] = u[x] * row[i[x]] + v[x] * row[j[x]] + w[x] * row[k[x]]
    for t in range(3, taps):
        i, u = index[t], weight[t]
        for x in range(len(into)):
            into[x] += u[x] * row[i[x]]


@_jit
def _clip(v):
    return min(max(v, _0), _1)


@_jit
def _jitter(a, brightness, contrast, saturation, hue):
    n = a.shape[1] * a.shape[2]
    r, g, b = a[0].reshape(n), a[1].reshape(n), a[2].reshape(n)
    total = _0
    for i in range(n):
        r[i], g[i], b[i] = _clip(r[i] * brightness), _clip(g[i] * brightness), _clip(b[i] * brightness)
        total += _R * r[i] + _G * g[i] + _B * b[i]
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
def _blur(a, sigma, reach, other, padded):
    """Gaussian blur of a [C, S, S], mirrored at its edges; other [S, S] and padded [3 S + 2] are scratch."""
    channels, side, _ = a.shape
    taps = np.zeros(reach + 2, np.float32)
    total = _0
    for k in range(reach + 1):
        taps[k] = np.exp(-_HALF * (_f(k) / sigma) * (_f(k) / sigma))
        total += taps[k] if k == 0 else _2 * taps[k]
    while reach > 0 and taps[reach] < _LEAST * total:
        taps[reach] = _0
        reach -= 1
    for k in range(reach + 1):
        taps[k] /= total
    pad = reach + 1
    for c in range(channels):
        for y in range(side):
            row = other[y]
            for x in range(side):
                row[x] = taps[0] * a[c, y, x]
            for k in range(1, reach + 1, 2):  # two at once: half of the loads and stores of the row
                above, below = a[c, _reflect(y - k, side)], a[c, _reflect(y + k, side)]
                over, under = a[c, _reflect(y - k - 1, side)], a[c, _reflect(y + k + 1, side)]
                v, w = taps[k], taps[k + 1]
                for x in range(side):
                    row[x] += v * (above[x] + below[x]) + w * (over[x] + under[x])
        for y in range(side):
            padded[pad : pad + side] = other[y]
            for k in range(1, pad + 1):
                padded[pad - k] = other[y, _reflect(-k, side)]
                padded[pad + side - 1 + k] = other[y, _reflect(side - 1 + k, side)]
            row = a[c, y]
            for x in range(side):
                row[x] = taps[0] * other[y, x]
            for k in range(1, reach + 1, 2):
                left, right = padded[pad - k : pad - k + side], padded[pad + k : pad + k + side]
                far, away = padded[pad - k - 1 : pad - k - 1 + side], padded[pad + k + 1 : pad + k + 1 + side]
                v, w = taps[k], taps[k + 1]
                for x in range(side):
                    row[x] += v * (left[x] + right[x]) + w * (far[x] + away[x])


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
    a = np.empty((channels, size, size), np.float32)
    other = np.empty((size, size), np.float32)
    padded = np.empty(3 * size + 2, np.float32)
    row = np.empty(side, np.float32)
    widest = max(np.abs(boxes[first:last, 1]).max(), np.abs(boxes[first:last, 3]).max())
    most = 2 * int(max(widest * side / size, 1)) + 4  # taps of an output pixel
    across = (np.empty((most, size), np.uint64), np.empty((most, size), np.float32))
    down = (np.empty((most, size), np.uint64), np.empty((most, size), np.float32))
    for i in range(first, last):
        _sample(pixels[i], boxes[i], leaves, across, down, row, a)
        for k in range(len(kinds)):
            p = given[k, i]
            if p[0] == _0:
                continue
            if kinds[k] == JITTER:
                _jitter(a, p[1], p[2], p[3], p[4])
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
