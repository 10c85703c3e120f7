"""Computes views on whole batches: the geometry is composed before a pixel is touched, colours follow.

Images come as canvases: squares [3, R, R] uint8 into which the whole image was squashed, beside their true
size, so that a crop's area and aspect are those of the photograph and only one resampling stands between the
canvas and the view.
"""

import math
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.views.batch import Draw
from tapetum.views.specs import Blur, Crop, Flip, Gray, Jitter, Operation, Shift, Solarise, View

SLOTS = 22  # random numbers that a step may use for an image
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def draw(
    tree: Any, pixels: Tensor, size: Tensor, rng: Draw, image_size: int, at: str = ""
) -> tuple[Any, Any]:
    """Views of canvases.

    Args:
        tree: views in nested dicts and lists.
        pixels: [B, 3, R, R] uint8, or float in [0, 1].
        size: [B, 2] height and width of the images before they were squashed.
        rng: the images' random numbers.
        image_size: the run's image size in pixels; views' sizes are shares of it.

    Returns:
        The same nest twice: pixels [B, 3, S, S] float32 in [0, 1], and geometry [B, 2, 3].
    """
    if isinstance(tree, dict):
        parts = {n: draw(v, pixels, size, rng, image_size, f"{at}/{n}") for n, v in tree.items()}
        return {n: x for n, (x, _) in parts.items()}, {n: g for n, (_, g) in parts.items()}
    if isinstance(tree, list):
        pairs = [draw(v, pixels, size, rng, image_size, f"{at}/{i}") for i, v in enumerate(tree)]
        return [x for x, _ in pairs], [g for _, g in pairs]
    view = View() + tree
    geometry = torch.eye(2, 3, device=pixels.device).repeat(len(pixels), 1, 1)
    for step in view.steps:
        geometry = compose(geometry, place(step, numbers(step, rng, at), size, pixels.shape[-1]))
    x = sample(pixels, geometry, view.size(image_size))
    for step in view.steps:
        x = paint(step, x, numbers(step, rng, at))
    return x.contiguous(memory_format=torch.channels_last), geometry


def numbers(step: Operation, rng: Draw, at: str) -> Tensor:
    """A step's random numbers [B, SLOTS], named by the view's place in the nest and the kind of step."""
    return rng.image(f"{at}:{type(step).__name__.lower()}", (SLOTS,))


def compose(outer: Tensor, inner: Tensor | None) -> Tensor:
    """The transform [B, 2, 3] that applies `inner` and then `outer`."""
    if inner is None:
        return outer
    return torch.cat(
        [outer[:, :, :2] @ inner[:, :, :2], outer[:, :, :2] @ inner[:, :, 2:] + outer[:, :, 2:]], 2
    )


def between(u: Tensor, low: float, high: float) -> Tensor:
    """Numbers in [0, 1) -> numbers in [low, high)."""
    return low + u * (high - low)


# ---- where a view's pixels lie in the image: None where an operation moves nothing ----


@singledispatch
def place(step: Operation, u: Tensor, size: Tensor, side: int) -> Tensor | None:
    """A step's transform [B, 2, 3] from its output's coordinates to its input's, both in [0, 1]."""
    return None


def axes(width: Tensor, height: Tensor, left: Tensor, top: Tensor) -> Tensor:
    """The transform [B, 2, 3] onto boxes given by [B] numbers."""
    zero = torch.zeros_like(width)
    return torch.stack([width, zero, left, zero, height, top], 1).view(-1, 2, 3)


@place.register
def _(step: Crop, u: Tensor, size: Tensor, side: int) -> Tensor:
    # As torchvision does: ten tries of area and aspect, the first that fits; else the largest centred box of
    # an allowed aspect.
    height, width = size.to(u).unbind(1)  # [B]
    area = between(u[:, 2:12], *step.scale) * (height * width)[:, None]  # [B, 10]
    aspect = between(u[:, 12:22], *map(math.log, step.ratio)).exp()
    w, h = (area * aspect).sqrt() / width[:, None], (area / aspect).sqrt() / height[:, None]
    fits = (w <= 1) & (h <= 1)
    first = fits.float().argmax(1, keepdim=True)
    limited = (width / height).clamp(*step.ratio)  # the nearest allowed aspect
    ok = fits.any(1)
    w = torch.where(ok, w.gather(1, first)[:, 0], (limited * height / width).clamp(max=1))
    h = torch.where(ok, h.gather(1, first)[:, 0], (width / limited / height).clamp(max=1))
    left = torch.where(ok, u[:, 0], 0.5) * (1 - w)
    top = torch.where(ok, u[:, 1], 0.5) * (1 - h)
    return axes(w, h, left, top)


@place.register
def _(step: Shift, u: Tensor, size: Tensor, side: int) -> Tensor:
    pixels = (between(u[:, :2], -step.share, step.share) * side).round() / side  # whole pixels blur nothing
    return axes(torch.ones_like(u[:, 0]), torch.ones_like(u[:, 0]), pixels[:, 0], pixels[:, 1])


@place.register
def _(step: Flip, u: Tensor, size: Tensor, side: int) -> Tensor:
    flip = (u[:, 0] < step.p).to(u)
    return axes(1 - 2 * flip, torch.ones_like(flip), flip, torch.zeros_like(flip))


def weights(start: Tensor, stretch: Tensor, out: int, side: int) -> Tensor:
    """How much each of `side` source pixels gives to each of `out` pixels of a box: [B, out, side].

    A triangle filter, widened where the box shrinks (so that nothing aliases); positions outside the image
    are mirrored at its edge pixels.
    """
    at = torch.arange(out, device=start.device) + 0.5  # [out]
    centre = (start[:, None] + stretch[:, None] * at / out) * side - 0.5  # [B, out]
    centre = (side - 1) - ((side - 1) - centre.abs()).abs()  # mirrored at both ends
    width = (stretch.abs() * side / out).clamp(min=1)[:, None, None]
    distance = (torch.arange(side, device=start.device) - centre[:, :, None]).abs()
    w = (1 - distance / width).clamp(min=0)
    return w / w.sum(2, keepdim=True)


def sample(pixels: Tensor, geometry: Tensor, out: int) -> Tensor:
    """Canvases [B, 3, R, R] -> views [B, 3, out, out] float32 in [0, 1], antialiased: two matrix products."""
    b, c, side, _ = pixels.shape
    x = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
    across = weights(geometry[:, 0, 2], geometry[:, 0, 0], out, side).to(x)  # [B, out, R]
    down = weights(geometry[:, 1, 2], geometry[:, 1, 1], out, side).to(x)
    x = torch.bmm(x.reshape(b, c * side, side), across.mT).view(b, c, side, out)
    return torch.bmm(down, x.transpose(1, 2).reshape(b, side, c * out)).view(b, out, c, out).transpose(1, 2)


# ---- what happens to the colours ----


@singledispatch
def paint(step: Operation, x: Tensor, u: Tensor) -> Tensor:
    """A step's effect on pixels x [B, 3, S, S] in [0, 1], with the random numbers u [B, SLOTS]."""
    return x


def gray(x: Tensor) -> Tensor:
    """Luma [B, 1, S, S]."""
    return LUMA[0] * x[:, 0:1] + LUMA[1] * x[:, 1:2] + LUMA[2] * x[:, 2:3]


def where(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """`new` for the images chosen [B], `old` for the others."""
    return torch.where(chosen[:, None, None, None], new, old)


def blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """`other` at factor 0, x at factor 1, and beyond; factor [B]."""
    factor = factor[:, None, None, None]
    return (x * factor + other * (1 - factor)).clamp(0, 1)


@paint.register
def _(step: Jitter, x: Tensor, u: Tensor) -> Tensor:
    def factor(k: int, strength: float) -> Tensor:
        return between(u[:, k], max(0.0, 1 - strength), 1 + strength)

    y = x
    if step.brightness:
        y = blend(y, torch.zeros_like(y[:, :1]), factor(1, step.brightness))
    if step.contrast:
        y = blend(y, gray(y).mean((1, 2, 3), keepdim=True), factor(2, step.contrast))
    if step.saturation:
        y = blend(y, gray(y), factor(3, step.saturation))
    if step.hue:
        y = turn_hue(y, between(u[:, 4], -step.hue, step.hue))
    return where(u[:, 0] < step.p, y, x)


def turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of x [B, 3, S, S] in HSV by `turns` [B] of the full circle."""
    value, low = x.amax(1), x.amin(1)  # [B, S, S]
    chroma = value - low
    r, g, b = x.unbind(1)
    per = chroma.clamp(min=1e-8).reciprocal_()
    sector = torch.where(
        value == r, (g - b) * per, torch.where(value == g, (b - r) * per + 2, (r - g) * per + 4)
    )
    sector.add_(6 * turns[:, None, None])
    k = sector[:, None] + torch.tensor([5.0, 3.0, 1.0], device=x.device)[:, None, None]  # [B, 3, S, S]
    k.sub_(torch.floor(k / 6), alpha=6)  # k modulo 6, in half of the time of %
    return value[:, None] - chroma[:, None] * (2 - k.sub_(2).abs_()).clamp_(0, 1)  # min(k, 4 - k)


@paint.register
def _(step: Gray, x: Tensor, u: Tensor) -> Tensor:
    return where(u[:, 0] < step.p, gray(x).expand_as(x), x)


@paint.register
def _(step: Blur, x: Tensor, u: Tensor) -> Tensor:
    side = x.shape[-1]
    sigma = between(u[:, 1], *step.sigma) * side / 224
    pad = min(side - 1, math.ceil(3 * step.sigma[1] * side / 224))
    source = torch.arange(-pad, side + pad, device=x.device)
    gap = (source - torch.arange(side, device=x.device)[:, None]).float()  # [S, S + 2 pad]
    w = torch.exp(-0.5 * (gap / sigma[:, None, None]).square()) * (gap.abs() <= pad)
    w = w / w.sum(2, keepdim=True)
    mirrored = (side - 1) - ((side - 1) - source.abs()).abs()
    w = w @ F.one_hot(mirrored, side).to(w)  # [B, S, S]
    y = w[:, None] @ x @ w[:, None].mT
    return where(u[:, 0] < step.p, y, x)


@paint.register
def _(step: Solarise, x: Tensor, u: Tensor) -> Tensor:
    return where(u[:, 0] < step.p, torch.where(x >= step.threshold, 1 - x, x), x)
