"""Colour statistics: those of one image given to another, and amounts of histological stains."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tapetum.base import random
from tapetum.base.settings import Share
from tapetum.views.colour import coloured
from tapetum.views.operation import Keyed, Painting, Parameters

# RGB to cones' responses, and these, as logarithms, to uncorrelated axes (Ruderman et al. 1998).
_CONES = ((0.3811, 0.5783, 0.0402), (0.1967, 0.7244, 0.0782), (0.0241, 0.1288, 0.8444))
_AXES = ((1 / 3**0.5,) * 3, (6**-0.5, 6**-0.5, -2 * 6**-0.5), (2**-0.5, -(2**-0.5), 0.0))
# How much of red, green and blue haematoxylin, eosin and DAB absorb (Ruifrok and Johnston 2001).
_STAINS = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))
_LEAST = 1 / 255
_DARKEST = 1e-6


def recoloured(x: Tensor, style: Tensor) -> Tensor:
    """x with the means and standard deviations of `style`'s colours, both [B, 3, S, S] in [0, 1].

    Reinhard et al. 2001, "Color transfer between images".
    """
    own, other = _lab(x), _lab(style)
    (mean, std), (goal, spread) = (_statistics(part) for part in (own, other))
    cones = _along(torch.tensor(_AXES).T, (own - mean) / std.clamp(min=1e-6) * spread + goal)
    return _along(torch.linalg.inv(torch.tensor(_CONES)), torch.exp(cones * math.log(10)))


def _lab(x: Tensor) -> Tensor:
    """Lightness, yellow against blue, red against green [B, 3, S, S]."""
    cones = _along(torch.tensor(_CONES), x.clamp(min=_LEAST))
    return _along(torch.tensor(_AXES), cones.log10())


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 3, 1, 1] each"""
    return x.mean((2, 3), keepdim=True), x.std((2, 3), keepdim=True, correction=0)


def stained(x: Tensor, times: Tensor, plus: Tensor) -> Tensor:
    """x [B, 3, S, S] in [0, 1] with `times` the amounts of three stains, and more; [B, 3] each.

    Tellez et al. 2018, "Whole-slide mitosis detection ..."
    """
    amounts = _along(
        torch.linalg.inv(torch.tensor(_STAINS)).T, x.clamp(min=_DARKEST).log() / math.log(_DARKEST)
    )
    amounts = amounts * times[..., None, None] + plus[..., None, None]
    return torch.exp(_along(torch.tensor(_STAINS).T, amounts) * math.log(_DARKEST)).clamp(0, 1)


def _along(matrix: Tensor, x: Tensor) -> Tensor:
    """A matrix [3, 3] applied to the channels of x [B, 3, S, S]."""
    return (matrix.to(x)[:, :, None, None] * x[:, None]).sum(2)  # in one order, whatever the batch


@dataclass(frozen=True)
class Stain(Keyed, Painting):
    """Change the amounts of haematoxylin, eosin and DAB with probability `p`: each is multiplied by up to
    1 +- `strength`, and up to +- `strength` is added. Tellez et al. 2018, arXiv:1808.05896"""

    strength: Share = 0.05
    p: float = 0.5

    def change(self, x: Tensor, given: Parameters) -> Tensor:
        if not coloured(x, "Stain"):
            return x
        times, plus = (2 * random.more(given["key"], (2, 3)) - 1).to(x.device).mul(self.strength).unbind(1)
        return stained(x, 1 + times, plus)
