"""Convolutions over the grid of an image's patches, from tokens to tokens."""

import itertools
import math

from torch import Tensor, nn
from torch.nn import functional as F


class GridNet(nn.Module):
    """Tokens of all patches [B, N, dim] -> [B, N, out]: the light decoder of data2vec 2.0 (arXiv:2212.07525).

    Each layer is a 3x3 convolution, a norm without learnt scale, GELU, and a shortcut where widths are equal.

    Args:
        dim: width of the tokens.
        width: own width.
        depth: number of layers.
        out: width of what is given.
        groups: of the convolutions, as many of these as widths can be divided by.
    """

    def __init__(self, dim: int, width: int, depth: int, out: int, groups: int = 1):
        super().__init__()
        widths = itertools.pairwise([dim, *depth * [width]])
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, groups=math.gcd(groups, a, b)) for a, b in widths
        )
        self.leave = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        side = math.isqrt(x.shape[1])
        x = x.mT.unflatten(2, (side, side))  # [B, D, H, W]
        for layer in self.layers:
            y = layer(x).movedim(1, -1)
            y = F.gelu(F.layer_norm(y, y.shape[-1:])).movedim(-1, 1)
            x = x + y if x.shape == y.shape else y
        return self.leave(x.flatten(2).mT)
