"""A small autoencoder with one of a few thousand codes for each patch in its middle."""

import math

import torch
from torch import Tensor, nn

from tapetum.base.distributed import total
from tapetum.parts.gridnet import GridNet
from tapetum.parts.losses import precise
from tapetum.parts.predictors import patchify


class Tokeniser(nn.Module):
    """Pixels [B, C, S, S] -> codes [B, N], and back to patches [B, N, C * patch * patch].

    A code is a number whose digits are finite: each is a bounded number, rounded, through which the gradient
    goes as if it were not (finite scalar quantisation, arXiv:2309.15505; bounded by a sigmoid here). So there
    is no codebook that could fall out of use.

    Args:
        channels: of the pixels.
        patch: side of a patch in pixels.
        width, depth: of the two networks of convolutions over the patches.
        levels: how many values each digit has, two or more; their product is the number of codes.
    """

    levels: Tensor
    worth: Tensor

    def __init__(self, channels: int, patch: int, width: int, depth: int, levels: tuple[int, ...]):
        super().__init__()
        pixels = channels * patch**2
        self.patch, self.count = patch, math.prod(levels)
        self.down = GridNet(pixels, width, depth, len(levels))
        self.up = GridNet(len(levels), width, depth, pixels)
        worth = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("worth", torch.tensor(worth), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What becomes of the patches [B, N, C * patch * patch], and their codes [B, N]."""
        digits = self._digits(x)
        return self._patches(digits), self._codes(digits)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """The codes [B, N] of pixels; they give no gradient."""
        return self._codes(self._digits(x))

    def drawn(self, codes: Tensor) -> Tensor:
        """The patches [B, N, C * patch * patch] that codes [B, N] stand for."""
        return self._patches(codes[..., None] // self.worth % self.levels)

    def _digits(self, x: Tensor) -> Tensor:
        pixels = patchify(x, self.patch).to(self.up.leave.weight)
        # about mean 0 and spread 1: as they are, few codes would come into use
        return rounded(self.down(4 * pixels - 2), self.levels)

    def _codes(self, digits: Tensor) -> Tensor:
        return (digits.round().long() * self.worth).sum(-1)

    def _patches(self, digits: Tensor) -> Tensor:
        return (self.up((2 * digits / (self.levels - 1) - 1).to(self.up.leave.weight)) + 2) / 4


@precise
def rounded(z: Tensor, levels: Tensor) -> Tensor:
    """Any numbers z [..., L] -> whole ones from 0 to levels - 1, with the gradient from before rounding."""
    bounded = (levels - 1) * z.sigmoid()
    return bounded + (bounded.round() - bounded).detach()


def share_used(codes: Tensor, count: int) -> Tensor:
    """The share of `count` codes in use: the exponential of the entropy of codes [B, N] of all processes, in
    (0, 1]."""
    counts = total(codes.flatten().bincount(minlength=count))
    shares = counts / counts.sum()
    return torch.special.entr(shares).sum().exp() / count
