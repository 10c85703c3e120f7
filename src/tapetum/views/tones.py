"""Operations on the values of a channel: fewer levels, other curves, other channels."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count
from tapetum.views.operation import Keyed, Painting, Parameters, whole, wide

Bits = Annotated[int, 1, 8]
Exponent = Annotated[float, 0.01, 100]


def levels(x: Tensor) -> Tensor:
    """[0, 1] -> the nearest of 256 levels, as whole numbers in floats."""
    return (x * 255).round()


def equalise(x: Tensor) -> Tensor:
    """Spread each channel's 256 levels evenly over their range, as PIL does."""
    v = levels(x).long().flatten(2)  # [B, C, N]
    counts = v.new_zeros(*v.shape[:2], 256).scatter_add_(2, v, torch.ones_like(v))
    step = (v.shape[2] - counts.gather(2, v.amax(2, keepdim=True))) // 255  # [B, C, 1]; 0: of one level
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    return torch.where(step > 0, table.gather(2, v), v).view(x.shape).to(x) / 255


def stretch(x: Tensor) -> Tensor:
    """Stretch each channel from its least and greatest value to [0, 1]; a flat channel stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-8), x).clamp(0, 1)


@dataclass(frozen=True)
class Posterise(Painting):
    """Keep only the first `bits` of each value's eight, with probability `p`."""

    bits: tuple[Bits, Bits] = (4, 8)
    p: float = 1.0
    SLOTS: ClassVar[int] = 2

    def amounts(self, u: Tensor) -> Parameters:
        """bits [B], whole numbers"""
        return {"bits": whole(u[:, 0], *self.bits)}

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        step = wide(1 << (8 - given["bits"].long()).clamp(0, 8)).to(x)
        return torch.floor(levels(x) / step) * step / 255


@dataclass(frozen=True)
class Equalise(Painting):
    """Equalise each channel's histogram with probability `p`."""

    p: float = 0.5

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        return equalise(x)


@dataclass(frozen=True)
class AutoContrast(Painting):
    """Stretch each channel to the whole range with probability `p`."""

    p: float = 0.5

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        return stretch(x)


@dataclass(frozen=True)
class Invert(Painting):
    """Turn light into dark with probability `p`."""

    p: float = 0.5

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        return 1 - x


@dataclass(frozen=True)
class Gamma(Painting):
    """Raise values to the power `gamma` with probability `p`."""

    gamma: tuple[Exponent, Exponent] = (0.5, 2.0)
    p: float = 1.0
    SLOTS: ClassVar[int] = 2

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        return (x.log() * wide(given["gamma"])).exp()  # pow's bits depend on the place in a tensor


@dataclass(frozen=True)
class ChannelShuffle(Keyed, Painting):
    """Put the channels into another order with probability `p`."""

    p: float = 0.5

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        order = random.more(given["key"], (x.shape[1],)).argsort(dim=1, stable=True)
        return x[torch.arange(len(x), device=x.device)[:, None], order]


@dataclass(frozen=True)
class ChannelDrop(Keyed, Painting):
    """Make `count` channels black with probability `p`."""

    count: Count = 1
    p: float = 0.5

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        if self.count >= x.shape[1]:
            raise TapetumError(
                f"ChannelDrop's count is {self.count}, of {x.shape[1]} channels; one must be left."
            )
        rank = random.more(given["key"], (x.shape[1],)).argsort(dim=1, stable=True).argsort(1)
        return x * (rank >= self.count)[:, :, None, None]


@dataclass(frozen=True)
class Quantise(Keyed, Painting):
    """Randomised quantisation with probability `p`: each channel's range of values is cut at random places
    into `regions`, and every value becomes one number drawn from its region. arXiv:2212.08663"""

    regions: Annotated[int, 2, 256] = 8
    p: float = 1.0

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        u = random.more(given["key"], (x.shape[1], 2 * self.regions - 1))  # [B, C, 2 R - 1]
        flat = x.flatten(2)
        low, high = flat.amin(2, keepdim=True), flat.amax(2, keepdim=True)
        cuts = low + (high - low) * u[..., : self.regions - 1].sort(2)[0]
        ends = torch.cat([low, cuts, high], 2)
        values = ends[..., :-1] + (ends[..., 1:] - ends[..., :-1]) * u[..., self.regions - 1 :]
        region = torch.searchsorted(cuts, flat.contiguous(), right=True)  # [B, C, N]
        return values.clamp(0, 1).gather(2, region).view(x.shape)
