"""Operations that turn, shear and tilt. They see the square that the steps before them have made."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tapetum.base.settings import Share
from tapetum.views.operation import Fill, Moving, Operation, Parameters, Positives, Range


def about_middle(
    a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor | float = 0, y: Tensor | float = 0
) -> Tensor:
    """The transforms [B, 3, 3] that first go back by (x, y) and then do [[a, b], [c, d]] about the middle."""
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    left, top = -0.5 - x, -0.5 - y
    move_x, move_y = 0.5 + (a * left + b * top), 0.5 + (c * left + d * top)
    return torch.stack([a, b, move_x, c, d, move_y, zero, zero, one], 1).view(-1, 3, 3)


def turned(degrees: Tensor) -> Tensor:
    """The transforms [B, 3, 3] that turn a view counter-clockwise about its middle."""
    cos, sin = torch.cos(degrees * (math.pi / 180)), torch.sin(degrees * (math.pi / 180))
    return about_middle(cos, -sin, sin, cos)


def onto_square(corners: Tensor) -> Tensor:
    """The transforms [B, 3, 3] that take a quadrangle's corners [B, 4, 2] (clockwise from the top left) to
    the unit square's."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (corners[:, k].unbind(1) for k in range(4))
    rest_x, rest_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    ax, ay, bx, by = x1 - x2, y1 - y2, x3 - x2, y3 - y2
    area = ax * by - bx * ay
    g, h = (rest_x * by - bx * rest_y) / area, (ax * rest_y - rest_x * ay) / area
    rows = [x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0]
    square_to_corners = torch.stack([*rows, g, h, torch.ones_like(g)], 1).view(-1, 3, 3)
    inverse = torch.linalg.inv(square_to_corners.double())
    return (inverse / inverse[:, 2:, 2:]).float()


@dataclass(frozen=True)
class Rotate(Moving):
    """Turn by an angle in `degrees`, counter-clockwise, with probability `p`."""

    degrees: Range = (-30.0, 30.0)
    p: float = 1.0
    fill: Fill = "mirror"
    SLOTS: ClassVar[int] = 2
    TURNS: ClassVar[bool] = True

    def move(self, given: Parameters) -> Tensor:
        return turned(given["degrees"])


@dataclass(frozen=True)
class QuarterTurn(Operation):
    """Turn by 0, 1, 2 or 3 quarters counter-clockwise, each as likely: `turns` is the label.
    arXiv:1803.07728"""

    TURNS: ClassVar[bool] = True

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """turns [B] int64, 0 to 3"""
        return {"turns": (4 * u[:, 0]).long()}

    def place(self, given: Parameters) -> Tensor:
        cos = torch.tensor([1.0, 0.0, -1.0, 0.0], device=given["turns"].device)
        sin = torch.tensor([0.0, 1.0, 0.0, -1.0], device=given["turns"].device)
        cos, sin = cos[given["turns"]], sin[given["turns"]]
        return about_middle(cos, -sin, sin, cos)


@dataclass(frozen=True)
class Affine(Moving):
    """Shear along x, shear along y, scale, turn counter-clockwise, and move, about the middle and in this
    order, with probability `p`.

    Args:
        degrees: of turning.
        move_x, move_y: in shares of the side.
        scale: above 1 enlarges.
        shear_x, shear_y: in degrees.
    """

    degrees: Range = (-10.0, 10.0)
    move_x: Range = (-0.1, 0.1)
    move_y: Range = (-0.1, 0.1)
    scale: Positives = (0.9, 1.1)
    shear_x: Range = (-10.0, 10.0)
    shear_y: Range = (0.0, 0.0)
    p: float = 1.0
    fill: Fill = "mirror"
    SLOTS: ClassVar[int] = 7
    TURNS: ClassVar[bool] = True

    def move(self, given: Parameters) -> Tensor:
        turn = given["degrees"] * (math.pi / 180)
        cos, sin = torch.cos(turn) / given["scale"], torch.sin(turn) / given["scale"]
        x, y = (torch.tan(given[name] * (math.pi / 180)) for name in ("shear_x", "shear_y"))
        both = 1 + x * y
        a, b = both * cos + x * sin, x * cos - both * sin
        return about_middle(a, b, y * cos + sin, cos - y * sin, given["move_x"], given["move_y"])


@dataclass(frozen=True)
class Perspective(Moving):
    """Tilt with probability `p`: each corner moves inwards by up to half of `distortion` of the side, as
    torchvision's RandomPerspective does."""

    distortion: Share = 0.5
    p: float = 0.5
    fill: Fill = "mirror"
    SLOTS: ClassVar[int] = 9
    TURNS: ClassVar[bool] = True

    def amounts(self, u: Tensor) -> Parameters:
        """corners [B, 4, 2]: where the corners move to, clockwise from the top left"""
        inwards = u.view(-1, 4, 2) * (self.distortion / 2)
        ends = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], device=u.device)
        return {"corners": ends + inwards * (1 - 2 * ends)}

    def move(self, given: Parameters) -> Tensor:
        return onto_square(given["corners"])
