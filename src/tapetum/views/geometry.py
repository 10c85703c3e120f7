"""Operations that move pixels: each gives a transform, and a view samples its image once through all."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tapetum.base.errors import TapetumError
from tapetum.views.operation import Operation, Parameters, Range, between


def axes(width: Tensor, height: Tensor, left: Tensor, top: Tensor) -> Tensor:
    """The transforms [B, 3, 3] onto boxes given by [B] numbers."""
    zero, one = torch.zeros_like(width), torch.ones_like(width)
    return torch.stack([width, zero, left, zero, height, top, zero, zero, one], 1).view(-1, 3, 3)


def middle(size: Tensor) -> Tensor:
    """The transforms [B, 3, 3] onto the square in the middle of images of these sizes [B, 2]."""
    height, width = size.float().unbind(1)
    least = torch.minimum(height, width)
    w, h = least / width, least / height
    return axes(w, h, (1 - w) / 2, (1 - h) / 2)


@dataclass(frozen=True)
class Crop(Operation):
    """Random resized crop: a share of the area in `scale`, an aspect in `ratio`, resized to a square.

    As torchvision does: ten tries of area and aspect, the first that fits; else the largest centred box of an
    allowed aspect. Boxes are not rounded to pixels.

    Args:
        size: side of the output; a share of the run's image size (0.43), or pixels when it is an int above 1.
        scale: range of the share of the image's area, in (0, 1].
        ratio: range of width / height, drawn log-uniformly.
    """

    size: int | float = 1.0
    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    SLOTS: ClassVar[int] = 22
    FRAMES: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise TapetumError(f"Crop's scale is {self.scale}; shares of the area lie in (0, 1].")
        if self.ratio[0] <= 0:
            raise TapetumError(f"Crop's ratio is {self.ratio}; it must be above 0.")

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """width, height, left, top [B]: the box in shares of the image."""
        height, width = size.to(u).unbind(1)  # [B]
        area = between(u[:, 2:12], *self.scale) * (height * width)[:, None]  # [B, 10]
        aspect = between(u[:, 12:22], *map(math.log, self.ratio)).exp()
        w, h = (area * aspect).sqrt() / width[:, None], (area / aspect).sqrt() / height[:, None]
        fits = (w <= 1) & (h <= 1)
        first = fits.float().argmax(1, keepdim=True)
        limited = (width / height).clamp(*self.ratio)  # the nearest allowed aspect
        ok = fits.any(1)
        w = torch.where(ok, w.gather(1, first)[:, 0], (limited * height / width).clamp(max=1))
        h = torch.where(ok, h.gather(1, first)[:, 0], (width / limited / height).clamp(max=1))
        left = torch.where(ok, u[:, 0], 0.5) * (1 - w)
        top = torch.where(ok, u[:, 1], 0.5) * (1 - h)
        return {"width": w, "height": h, "left": left, "top": top}

    def place(self, given: Parameters) -> Tensor:
        return axes(given["width"], given["height"], given["left"], given["top"])


@dataclass(frozen=True)
class Resize(Operation):
    """The whole image, squashed to a square of `size` (a share of the run's image size, or pixels)."""

    size: int | float = 1.0
    FRAMES: ClassVar[bool] = True


@dataclass(frozen=True)
class Shift(Operation):
    """Move the image by up to `share` of its side each way, in whole pixels, which blurs nothing; what comes
    in from outside is mirrored."""

    share: float = 0.125
    SLOTS: ClassVar[int] = 2
    LEAVES: ClassVar[bool] = True

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """left, top [B]: in shares of the canvas."""
        left, top = ((between(u, -self.share, self.share) * side).round() / side).unbind(1)
        return {"left": left, "top": top}

    def place(self, given: Parameters) -> Tensor:
        one = torch.ones_like(given["left"])
        return axes(one, one, given["left"], given["top"])


@dataclass(frozen=True)
class Flip(Operation):
    """Mirror left and right with probability `p`."""

    p: float = 0.5

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """on [B]: whether the image is mirrored."""
        return {"on": u[:, 0] < self.p}

    def place(self, given: Parameters) -> Tensor:
        flip = given["on"].float()
        return axes(1 - 2 * flip, torch.ones_like(flip), flip, torch.zeros_like(flip))
