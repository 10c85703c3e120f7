"""Sampling canvases through transforms, antialiased where they shrink."""

import torch
from torch import Tensor

_EDGE = 1e-3  # of a pixel: what a box may miss a pixel's border by through rounding


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
    return torch.bmm(down, x.transpose(1, 2).reshape(b, side, c * out)).view(b, out, c, out).transpose(1, 2)
