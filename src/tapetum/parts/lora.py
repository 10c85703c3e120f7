"""Low-rank adapters beside the layers of a frozen network (LoRA). arXiv:2106.09685"""

import math
import re
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tapetum.base.errors import TapetumError

Layer = nn.Linear | nn.Conv2d
KINDS = (nn.Linear, nn.Conv2d)  # these alone: a subclass may do more with its weight than multiply by it


class LowRank(nn.Module):
    """A frozen layer plus alpha / rank times two learnt ones: to `rank` channels, and from there to its own.

    A convolution's first learnt layer has its kernel, stride and padding, the second is 1x1. Both products
    are of one matrix [out, in * kernel], so the sum can be merged into the layer's weight.
    """

    def __init__(self, layer: Layer, rank: int, alpha: float):
        super().__init__()
        self.layer, self.scale = layer.requires_grad_(False), alpha / rank
        self.down = nn.Parameter(layer.weight.new_empty(rank, *layer.weight.shape[1:]))
        self.up = nn.Parameter(layer.weight.new_zeros(len(layer.weight), rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.layer, nn.Linear):
            beside = F.linear(F.linear(x, self.down), self.up)
        else:
            beside = F.conv2d(self.layer._conv_forward(x, self.down, None), self.up[:, :, None, None])
        return self.layer(x) + self.scale * beside

    @property
    def weight(self) -> Tensor:
        """The weight of both together; some networks multiply by it themselves."""
        return self.layer.weight + self.scale * (self.up @ self.down.flatten(1)).view_as(self.layer.weight)

    @property
    def bias(self) -> Tensor | None:
        """The layer's own."""
        return self.layer.bias


def attach(net: nn.Module, rank: int = 8, alpha: float = 16.0, pattern: str = "") -> list[str]:
    """Freeze `net` and put an adapter beside each layer whose name `pattern` finds; its output stays.

    Linear layers and convolutions without groups take one, where it has fewer numbers than the layer. The
    first of the two learnt matrices is drawn by torch's generator, the second is zero.

    Args:
        net: changed in place.
        rank: r in the paper.
        alpha: what the adapter adds counts alpha / rank.
        pattern: a regular expression searched for in the names; "" finds every layer.

    Returns the names of the layers. Raises TapetumError where there are none, or adapters already.
    """
    if any(isinstance(module, LowRank) for module in net.modules()):
        raise TapetumError(f"{type(net).__name__} has adapters already; merge them first.")
    can = {name: layer for name, layer in net.named_modules() if _takes(layer, rank)}
    try:
        chosen = [name for name in can if re.search(pattern, name)]
    except re.error as error:
        raise TapetumError(f"{pattern!r} is no regular expression: {error}.") from None
    if not chosen:
        there = f"they are {', '.join(can)}" if can else "there are none at all"
        there = there if len(there) < 400 else f"{there[:400]} ..."
        raise TapetumError(
            f"no layer of {type(net).__name__} that takes adapters of rank {rank} matches {pattern!r}; "
            f"{there}."
        )
    net.requires_grad_(False)
    for name in chosen:
        _put(net, name, LowRank(cast(Layer, can[name]), rank, alpha))
    return chosen


def _takes(layer: nn.Module, rank: int) -> bool:
    if type(layer) not in KINDS or getattr(layer, "groups", 1) != 1:
        return False
    out, inner = cast(Layer, layer).weight.flatten(1).shape
    return rank * (out + inner) < out * inner


def _put(net: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    setattr(net.get_submodule(owner), last, module)


@torch.no_grad()
def merge(net: nn.Module) -> None:
    """Add every adapter to its layer's weight and take it away, in place; then everything learns again."""
    for name, module in list(net.named_modules()):
        if isinstance(module, LowRank):
            module.layer.weight.copy_(module.weight)
            _put(net, name, module.layer)
    net.requires_grad_(True)
