"""Sampling canvases through transforms, antialiased where they shrink."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.views.operation import Fill

_EDGE = 1e-3  # of a pixel: what a box may miss a pixel's border by through rounding
_MOST = 8  # times that the general sampler shrinks without aliasing
_SLACK = 0.1  # shrinking by so much more shows no aliasing, and nine samples cost more than one
_PADDING = {"mirror": "reflection", "edge": "border", "zero": "zeros", "gray": "zeros"}


class Bent(NamedTuple):
    """Where the pixels of bent views come from: each is moved in the view, and then goes through a
    transform."""

    transforms: Tensor  # [B, 3, 3]
    field: Tensor  # [B, 2, S, S] by how much, in shares of the view, x before y


def weights(start: Tensor, stretch: Tensor, out: int, side: int, leaves: bool = False) -> Tensor:
    """How much each of `side` source pixels gives to each of `out` pixels of a box: [B, out, side].

    A triangle filter, widened where the box shrinks (so that nothing aliases), of the pixels that the box
    touches: as if it had first been cut out, which is what PIL and torchvision do. With `leaves` the box may
    reach outside, where the image is mirrored at its edge pixels.
    """
    at = torch.arange(out, device=start.device) + 0.5  # [out]
    start, stretch = start[:, None] * side, stretch[:, None] * side  # [B, 1]
    centre = (start + stretch * (at / out) - 0.5)[:, :, None]  # [B, out, 1]
    width = (stretch.abs() / out).clamp(min=1)[:, :, None]
    low = torch.minimum(start, start + stretch)[:, :, None] + (_EDGE - 1)
    high = torch.maximum(start, start + stretch)[:, :, None] - _EDGE

    def triangle(pixel: Tensor) -> Tensor:
        return (1 - (pixel - centre).abs() / width).clamp_(min=0) * ((pixel > low) & (pixel < high))

    pixel = torch.arange(side, device=start.device)
    w = triangle(pixel)
    if leaves:
        w = w + triangle(-pixel) * (pixel > 0) + triangle(2 * (side - 1) - pixel) * (pixel < side - 1)
    return w / w.sum(2, keepdim=True)


def unit(pixels: Tensor) -> Tensor:
    """uint8, or floats in [0, 1] -> float32 in [0, 1]."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


def box(pixels: Tensor, geometry: Tensor, out: int, leaves: bool = False) -> Tensor:
    """Canvases [B, C, R, R] -> views [B, C, out, out] float32 through transforms [B, 3, 3] that stretch,
    mirror and move along the axes: two matrix products."""
    b, c, side, _ = pixels.shape
    x = unit(pixels)
    across = weights(geometry[:, 0, 2], geometry[:, 0, 0], out, side, leaves).to(x)  # [B, out, R]
    down = weights(geometry[:, 1, 2], geometry[:, 1, 1], out, side, leaves).to(x)
    x = torch.bmm(x.reshape(b, c * side, side), across.mT).view(b, c, side, out)
    x = torch.bmm(down, x.transpose(1, 2).reshape(b, side, c * out)).clamp_(0, 1)  # sums of shares round
    return x.view(b, out, c, out).transpose(1, 2)


def centres(side: int, device: torch.device | None = None) -> Tensor:
    """The places [2, S, S] of a view's pixels in the view, x before y, in [0, 1]."""
    line = (torch.arange(side, device=device) + 0.5) / side
    return torch.stack([line.expand(side, side), line[:, None].expand(side, side)])


def project(geometry: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Places [B, 2, ...] through transforms [B, 3, 3]: the places there, and the divisor [B, 1, ...]."""
    g = geometry.view(-1, 3, 3, *[1] * (at.ndim - 2))
    x, y, w = ((g[:, k, 0] * at[:, 0] + g[:, k, 1] * at[:, 1]) + g[:, k, 2] for k in range(3))
    w = w.clamp(min=1e-3)  # what lies behind the horizon
    return torch.stack([x / w, y / w], 1), w[:, None]


def stretches(geometry: Tensor, at: Tensor, there: Tensor, w: Tensor) -> list[Tensor]:
    """By how much a place in the image moves when one in the view moves across and down: two [B, 2, ...]."""
    g = geometry.view(-1, 3, 3, *[1] * (at.ndim - 2))
    return [(g[:, :2, k] - there * g[:, 2:, k]) / w for k in (0, 1)]


def counts(geometry: Tensor, shrink: float) -> Tensor:
    """How many samples [B] int64 each way a pixel of a view is the mean of, where transforms sample a canvas
    that is `shrink` times as wide as the view: 1, 2, 3, 5, 7, ..."""
    at = torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 1.0]], device=geometry.device)[None]
    there, w = project(geometry, at)
    steps = stretches(geometry, at, there, w)
    most = torch.stack([step.square().sum(1).amax(1) for step in steps]).amax(0).sqrt() * shrink  # [B]
    odd = 2 * (most - _SLACK).ceil().clamp(1, _MOST).long() - 1
    return torch.where((most > 1 + _SLACK) & (most <= 1.5), 2, odd)


def warp(
    pixels: Tensor, geometry: Tensor, out: int, fill: Fill = "edge", field: Tensor | None = None
) -> Tensor:
    """Canvases [B, C, R, R] -> views [B, C, out, out] float32 through any transforms [B, 3, 3].

    Bilinear; where it shrinks by s, averaged over s pixels each way along the view's axes, which blurs as
    much as PIL's antialiasing does (up to eight times). Nothing is cut out first: beyond a crop's border
    stands what the image has there.

    Args:
        fill: what lies outside of the image.
        field: [B, 2, out, out], by how much pixels are moved in the view before they are transformed.
    """
    x = unit(pixels)
    at = centres(out, x.device)[None] if field is None else centres(out, x.device) + field
    count = counts(geometry, x.shape[-1] / out).cpu()
    geometry = geometry.to(x.device, non_blocking=True)
    sizes = count.unique().tolist()
    if len(sizes) == 1:
        return _sampled(x, geometry, at, sizes[0], fill)
    views = x.new_empty(*x.shape[:2], out, out)
    for size in sizes:
        rows = (count == size).nonzero()[:, 0].to(x.device)
        views[rows] = _sampled(x[rows], geometry[rows], at if field is None else at[rows], size, fill)
    return views


def _sampled(x: Tensor, geometry: Tensor, at: Tensor, count: int, fill: Fill) -> Tensor:
    """`warp` of images that need so many samples each way."""
    side, out = x.shape[-1], at.shape[-1]
    there, w = project(geometry, at)
    pixel = there * side - 0.5
    if count == 1:
        return lookup(x, pixel, fill).clamp(0, 1)
    axes = []
    for step in stretches(geometry, at, there, w):
        step = step * (side / out)  # in source pixels per pixel of the view
        length = (step[:, :1].square() + step[:, 1:].square()).sqrt().clamp(min=1e-6)
        axes.append([(step / length * way, share) for way, share in _taps(length, count)])
    total = torch.zeros((), device=x.device)
    for down, row in axes[1]:
        for across, column in axes[0]:
            total = total + lookup(x, pixel + (down + across), fill) * (row * column)
    return total.clamp(0, 1)


def _taps(length: Tensor, count: int) -> list[tuple[Tensor | int, Tensor | float]]:
    """How far off to sample (in source pixels), and with what shares, where a pixel of the view is `length`
    [B, 1, S, S] source pixels long. Bilinear samples at whole pixels under a triangle of that half-width have
    the variance of PIL's filter; so do two at the right distance, which are enough for little shrinking."""
    shrink = length.clamp(1, (count + 1) // 2 + (count == 2))
    if count == 2:
        way = ((shrink.square() - 1) / 6).sqrt()
        return [(-way, 0.5), (way, 0.5)]
    ways = range(-(count // 2), count // 2 + 1)
    shares = [(1 - abs(way) / shrink).clamp(min=0) for way in ways]
    total = sum(shares[1:], shares[0])
    return [(way, share / total) for way, share in zip(ways, shares)]


def lookup(x: Tensor, pixel: Tensor, fill: Fill) -> Tensor:
    """Bilinear values of x [B, C, R, R] at places [B, 2, S, S] in pixels, whose centres are whole numbers."""
    base = 0.5 if fill == "gray" else 0.0
    grid = (pixel * (2 / max(x.shape[-1] - 1, 1)) - 1).permute(0, 2, 3, 1).contiguous()  # twice as fast
    grid = grid.expand(len(x), -1, -1, -1)
    x = x - base if base else x
    found = F.grid_sample(x, grid, "bilinear", _PADDING[fill], align_corners=True)
    return found + base if base else found
