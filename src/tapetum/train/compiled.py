"""Compiles the blocks of a method's encoders, and nothing else, so that methods stay plain Python."""

import torch
from torch import nn

from tapetum.encoders import Encoder

LISTS = nn.Sequential | nn.ModuleList
KINDS = 64  # blocks of different shapes that one kind of block may have, views of several sizes included


def compile_blocks(method: nn.Module, backend: str = "inductor") -> int:
    """Have torch compile each block of every encoder of a method, teachers included; gives their number.

    A block is compiled at its first call, once for all blocks of one shape. Names of weights stay.
    """
    torch._dynamo.config.recompile_limit = max(KINDS, torch._dynamo.config.recompile_limit)
    found = [block for part in method.modules() if isinstance(part, Encoder) for block in blocks(part.net)]
    for block in dict.fromkeys(found):
        block.compile(backend=backend)
    return len(found)


def blocks(net: nn.Module) -> list[nn.Module]:
    """The parts that a network repeats: what stands in its lists, has parts of its own, and repeats none."""
    found: list[nn.Module] = []
    for part in net.children():
        inner = blocks(part)
        repeated = isinstance(net, LISTS) and not isinstance(part, LISTS) and list(part.children())
        found += inner or ([part] if repeated else [])
    return found
