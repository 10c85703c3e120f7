"""What a JPEG file loses, computed on whole batches: no file is written."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.views.operation import Painting, Parameters, whole

Quality = Annotated[int, 1, 100]
_BRIGHTNESS = (  # the quantisation tables of ITU-T T.81, annex K
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_COLOUR = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(4 * ((99,) * 8,)),
)
_WAVES = [  # [wave, place]: the cosine transform of eight values, orthonormal
    [math.sqrt((1 if k == 0 else 2) / 8) * math.cos((2 * n + 1) * k * math.pi / 16) for n in range(8)]
    for k in range(8)
]


def tables(base: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """Quantisation tables [B, 8, 8] at qualities [B] from 1 to 100, scaled as libjpeg does."""
    quality = quality.long()
    scale = torch.where(quality < 50, 5000 // quality, 200 - 2 * quality)[:, None, None]
    return ((torch.tensor(base, device=quality.device) * scale + 50) // 100).clamp(1, 255).float()


def lose(x: Tensor, table: Tensor) -> Tensor:
    """Quantise the waves of each 8 x 8 block of x [B, C, H, W] (values around 0) by table [B, 8, 8]."""
    b, c, h, w = x.shape
    waves = torch.tensor(_WAVES, device=x.device).expand(b, 8, 8)
    blocks = x.view(b, c, h // 8, 8, w // 8, 8).permute(0, 3, 5, 1, 2, 4)  # [B, 8, 8, C, H / 8, W / 8]

    def both(y: Tensor, waves: Tensor) -> Tensor:
        y = torch.bmm(waves, y.reshape(b, 8, -1)).view(blocks.shape)
        return torch.bmm(waves, y.transpose(1, 2).reshape(b, 8, -1)).view(blocks.shape).transpose(1, 2)

    table = table[:, :, :, None, None, None]
    kept = (both(blocks, waves) / table).round() * table
    return both(kept, waves.mT).permute(0, 3, 4, 1, 5, 2).reshape(b, c, h, w)


def padded(x: Tensor, multiple: int) -> Tensor:
    """x [B, C, H, W] with its last row and column repeated up to a multiple."""
    return F.pad(x, (0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple), mode="replicate")


def halved(x: Tensor) -> Tensor:
    """The means of 2 x 2 whole numbers as whole numbers; halves go down and up in turn, as in libjpeg."""
    total = x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]
    return ((total + 1 + torch.arange(total.shape[3], device=x.device) % 2) / 4).floor()


def compress(x: Tensor, quality: Tensor) -> Tensor:
    """x [B, C, S, S] in [0, 1] through a JPEG file of quality [B]: three channels with colours at half of the
    resolution, any other number as that many gray images."""
    side = x.shape[-1]
    bright = tables(_BRIGHTNESS, quality)
    if x.shape[1] != 3:
        y = lose(padded((x * 255).round(), 8) - 128, bright)[:, :, :side, :side]
        return ((y + 128).round().clamp(0, 255)) / 255
    r, g, b = (padded(x, 16) * 255).round().split(1, 1)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    blue, red = (b - luma) / 1.772, (r - luma) / 1.402
    luma = (lose(luma.round() - 128, bright) + 128).round().clamp(0, 255)
    colours = halved(torch.cat([blue, red], 1).round())
    colours = lose(colours, tables(_COLOUR, quality)).round().clamp(-128, 127)
    blue, red = F.interpolate(colours, scale_factor=2, mode="bilinear", align_corners=False).split(1, 1)
    rgb = [
        luma + 1.402 * red,
        luma - (0.114 * 1.772 * blue + 0.299 * 1.402 * red) / 0.587,
        luma + 1.772 * blue,
    ]
    return torch.cat(rgb, 1)[:, :, :side, :side].round().clamp(0, 255) / 255


@dataclass(frozen=True)
class Jpeg(Painting):
    """Lose what a JPEG file of a `quality` from 1 to 100 loses, with probability `p`."""

    quality: tuple[Quality, Quality] = (30, 95)
    p: float = 0.5
    SLOTS: ClassVar[int] = 2

    def amounts(self, u: Tensor) -> Parameters:
        """quality [B], whole numbers"""
        return {"quality": whole(u[:, 0], *self.quality)}

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        return compress(x, given["quality"])
