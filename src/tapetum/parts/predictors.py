"""From some of an image's tokens, say something about others."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tapetum.base.errors import TapetumError
from tapetum.base.torchvision_compat import timm
from tapetum.encoders.chunks import Chunked, by_chunks

Block = timm.models.vision_transformer.Block


def patchify(x: Tensor, patch: int) -> Tensor:
    """Pixels [B, C, H, W] -> [B, N, C * patch * patch], N = H/patch * W/patch, row by row."""
    return F.unfold(x, patch, stride=patch).transpose(1, 2)


def sincos(grid: int, dim: int) -> Tensor:
    """Fixed two-dimensional position code [grid * grid, dim]; dim is a multiple of 4 (arXiv:2104.02057)."""
    angle = torch.arange(grid)[:, None] / 10_000 ** (torch.arange(dim // 4) / (dim // 4))  # [grid, dim/4]
    code = torch.cat([angle.sin(), angle.cos()], 1)  # [grid, dim/2]
    return torch.cat([code.repeat(grid, 1), code.repeat_interleave(grid, 0)], 1)


def heads(width: int) -> int:
    """How many attention heads of 32 a width has. Raises TapetumError where it is no multiple of 32."""
    if width % 32:
        raise TapetumError(f"method.width is {width}; it must be a multiple of 32.")
    return width // 32


class TokenPredictor(Chunked):
    """A small transformer: tokens of seen patches [B, K, dim] -> what stands at others [B, M, out].

    Args:
        dim: width of the encoder's tokens.
        grid: patches a side.
        width: own width, a multiple of 32.
        depth: number of blocks.
        out: width of what is predicted.
    """

    place: Tensor

    def __init__(self, dim: int, grid: int, width: int, depth: int, out: int):
        super().__init__()
        self.enter = nn.Linear(dim, width)
        self.blank = nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("place", sincos(grid, width), persistent=False)  # [N, width]
        self.blocks = nn.Sequential(*(Block(width, heads(width), qkv_bias=True) for _ in range(depth)))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out))

    def forward(self, seen: Tensor, keep: Tensor, wanted: Tensor) -> Tensor:
        """seen [B, K, dim] stand at keep [B, K]; asked for wanted [B, M] -> [B, M, out]."""
        return by_chunks(self, self._said, seen, keep, wanted)

    def _said(self, seen: Tensor, keep: Tensor, wanted: Tensor) -> Tensor:
        asked = self.blank + self.place[wanted]  # [B, M, width]
        x = self.blocks(torch.cat([self.enter(seen) + self.place[keep], asked], 1))
        return self.leave(x[:, -wanted.shape[1] :])


def separable(dim: int, depth: int) -> nn.Sequential:
    """Maps [B, dim, H, W] -> the same, through layers of 3x3 depthwise and 1x1 convolutions, with batch norm
    and ReLU between layers and nothing after the last (arXiv:2408.07514)."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.BatchNorm2d(dim), nn.ReLU()] if i else []
        layers += [nn.Conv2d(dim, dim, 3, padding=1, groups=dim), nn.Conv2d(dim, dim, 1)]
    return nn.Sequential(*layers)
