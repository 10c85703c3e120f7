"""The blocks of encoders: what is compiled, split over processes or computed anew, each by itself."""

from torch import nn

from tapetum.encoders import Encoder

LISTS = nn.Sequential | nn.ModuleList


def blocks_of(method: nn.Module) -> list[nn.Module]:
    """The blocks of all encoders in a method, teachers included."""
    nets = [part.net for part in method.modules() if isinstance(part, Encoder)]
    return list(dict.fromkeys(block for net in nets for block in blocks(net)))


def blocks(net: nn.Module) -> list[nn.Module]:
    """The parts that a network repeats: what stands in its lists, has parts of its own, and repeats none."""
    found: list[nn.Module] = []
    for part in net.children():
        inner = blocks(part)
        repeated = isinstance(net, LISTS) and not isinstance(part, LISTS) and list(part.children())
        found += inner or ([part] if repeated else [])
    return found
