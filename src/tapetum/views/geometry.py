"""Operations that stretch, mirror and move along the axes: a view samples its image once, through all."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from tapetum.base.errors import TapetumError
from tapetum.base.settings import Share
from tapetum.views.operation import Fill, Moving, Operation, Parameters, Range, Size, between, whole


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


def first_fitting(
    area: Tensor, aspect: Tensor, width: Tensor | float, height: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Of several tries [B, K] of area (in pixels) and aspect, the first whose box fits an image: its width
    and height [B] in shares of the image, and whether [B] one fits."""
    w, h = (area * aspect).sqrt() / width, (area / aspect).sqrt() / height
    fits = (w <= 1) & (h <= 1)
    first = fits.float().argmax(1, keepdim=True)
    return w.gather(1, first)[:, 0], h.gather(1, first)[:, 0], fits.any(1)


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

    size: Size = 1.0
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
        w, h, ok = first_fitting(area, aspect, width[:, None], height[:, None])
        limited = (width / height).clamp(*self.ratio)  # the nearest allowed aspect
        w = torch.where(ok, w, (limited * height / width).clamp(max=1))
        h = torch.where(ok, h, (width / limited / height).clamp(max=1))
        left = torch.where(ok, u[:, 0], 0.5) * (1 - w)
        top = torch.where(ok, u[:, 1], 0.5) * (1 - h)
        return {"width": w, "height": h, "left": left, "top": top}

    def place(self, given: Parameters) -> Tensor:
        return axes(given["width"], given["height"], given["left"], given["top"])


@dataclass(frozen=True)
class Resize(Operation):
    """The image, or its middle, resized to a square.

    Args:
        size: side of the output; a share of the run's image size, or pixels when it is an int above 1.
        fit: "squash" takes the whole image whatever its shape, "crop" its largest centred square, "pad" the
            smallest square around it.
        share: of that square's side which is kept, in the middle; 0.875 is "resize to 256, crop 224".
        fill: what "pad" adds.
    """

    size: Size = 1.0
    fit: Literal["squash", "crop", "pad"] = "squash"
    share: Annotated[float, 0.01, 1] = 1.0
    fill: Fill = "zero"
    FRAMES: ClassVar[bool] = True
    TURNS: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        # what lies far outside needs the general sampler
        object.__setattr__(self, "TURNS", self.fit == "pad")

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """width, height [B]: the box around the image's middle, in shares of the image."""
        size = size.to(u)  # [B, 2]
        square = {"squash": size, "crop": size.amin(1, keepdim=True), "pad": size.amax(1, keepdim=True)}
        height, width = (self.share * square[self.fit] / size).unbind(1)
        return {"width": width, "height": height}

    def place(self, given: Parameters) -> Tensor:
        width, height = given["width"], given["height"]
        return axes(width, height, (1 - width) / 2, (1 - height) / 2)

    def outside(self) -> Fill | None:
        return self.fill if self.fit == "pad" else None


@dataclass(frozen=True)
class Shift(Operation):
    """Pad and crop: move the image by up to `share` of its side each way, in whole pixels, which blurs
    nothing."""

    share: Share = 0.125
    fill: Fill = "mirror"
    SLOTS: ClassVar[int] = 2

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """left, top [B]: in shares of the canvas."""
        most = round(self.share * side)
        left, top = (whole(u, -most, most) / side).unbind(1)
        return {"left": left, "top": top}

    def place(self, given: Parameters) -> Tensor:
        one = torch.ones_like(given["left"])
        return axes(one, one, given["left"], given["top"])


@dataclass(frozen=True)
class Flip(Moving):
    """Mirror left and right with probability `p`."""

    p: float = 0.5

    def move(self, given: Parameters) -> Tensor:
        one = torch.ones(len(given["on"]), device=given["on"].device)
        return axes(-one, one, one, 0 * one)


@dataclass(frozen=True)
class VerticalFlip(Moving):
    """Mirror top and bottom with probability `p`."""

    p: float = 0.5

    def move(self, given: Parameters) -> Tensor:
        one = torch.ones(len(given["on"]), device=given["on"].device)
        return axes(one, -one, 0 * one, one)
