"""The blocks of a method's encoders: what is split over processes, or computed anew, one at a time."""

from collections.abc import Iterator

from torch import nn

from tapetum.encoders.encoder import Encoder

CHAINS = (nn.Sequential, nn.ModuleList)


def blocks(method: nn.Module) -> list[nn.Module]:
    """The blocks of all encoders in a method, teachers' included: transformer blocks, residual blocks.

    A block is a link of a chain, has several parts with weights of their own, and holds no blocks itself.
    """
    nets = [part.net for part in method.modules() if isinstance(part, Encoder)]
    return list(dict.fromkeys(block for net in nets for block in _within(net, False)))


def _within(module: nn.Module, linked: bool) -> Iterator[nn.Module]:
    inner = [block for part in module.children() for block in _within(part, isinstance(module, CHAINS))]
    if inner:
        yield from inner
    elif linked and sum(1 for part in module.children() if next(part.parameters(), None) is not None) > 1:
        yield module
