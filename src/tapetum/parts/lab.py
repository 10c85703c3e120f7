"""Colours as lightness and two axes of colour (CIE Lab), in bins that a network can guess among."""

import torch
from torch import Tensor

from tapetum.parts.losses import precise

# sRGB with its white at D65 (IEC 61966-2-1) to CIE XYZ, each divided by the white's.
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)
_DARK, _SLOPE = 0.008856, 7.787  # below, the cube root goes over into a line


@precise
def lab(x: Tensor) -> Tensor:
    """sRGB [B, 3, H, W] in [0, 1] -> lightness in [0, 100], then green-red and blue-yellow in some +-110."""
    linear = torch.where(x > 0.04045, _power((x + 0.055) / 1.055, 2.4), x / 12.92)
    matrix = x.new_tensor(_XYZ) / x.new_tensor(_WHITE)[:, None]
    xyz = (matrix[:, :, None, None] * linear[:, None]).sum(2)
    root = torch.where(xyz > _DARK, _power(xyz, 1 / 3), _SLOPE * xyz + 16 / 116)
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def _power(x: Tensor, exponent: float) -> Tensor:
    """x to a power; torch's own pow changes bits with the place in a tensor."""
    return torch.exp(x.clamp(min=1e-8).log() * exponent)


def colours(spacing: float) -> Tensor:
    """The middles [Q, 2] of all bins, `spacing` wide, that hold a colour of sRGB at some lightness."""
    line = torch.linspace(0, 1, 52, dtype=torch.float64)
    cube = torch.cartesian_prod(line, line, line).T.view(1, 3, -1, 1)
    return (lab(cube)[0, 1:, :, 0].T / spacing).round().unique(dim=0).float() * spacing


@precise
def soft_colours(ab: Tensor, middles: Tensor, neighbours: int, spread: float) -> Tensor:
    """Colours ab [N, 2] as shares [N, Q] of the nearest bins, by a Gaussian of that spread around each."""
    gap = (ab[:, None, 0] - middles[:, 0]).square() + (ab[:, None, 1] - middles[:, 1]).square()  # [N, Q]
    near, at = gap.topk(min(neighbours, len(middles)), dim=1, largest=False)
    return torch.zeros_like(gap).scatter_(1, at, (-near / (2 * spread**2)).softmax(1))


@precise
def rarity(frequency: Tensor, uniform: float) -> Tensor:
    """Weights [Q] that make rare colours count, whose mean over the colours' frequency [Q] is 1: one over the
    frequency, of which the share `uniform` is first spread over all (arXiv:1603.08511, section 2.2)."""
    weight = 1 / ((1 - uniform) * frequency + uniform / len(frequency))
    return weight / (frequency * weight).sum()


@precise
def weighted_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of logits [N, Q] with shares [N, Q], each row counting `weight` [N]."""
    return -(weight * (target * logits.log_softmax(1)).sum(1)).mean()
