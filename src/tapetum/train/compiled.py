"""Compiles the blocks of a method's encoders, and nothing else, so that methods stay plain Python."""

import torch
from torch import nn

from tapetum.train.blocks import blocks_of

KINDS = 64  # blocks of different shapes that one kind of block may have, views of several sizes included


def compile_blocks(method: nn.Module, backend: str = "inductor") -> int:
    """Have torch compile each block of every encoder of a method, teachers included; gives their number.

    A block is compiled at its first call, once for all blocks of one shape. Names of weights stay.
    """
    torch._dynamo.config.recompile_limit = max(KINDS, torch._dynamo.config.recompile_limit)
    found = blocks_of(method)
    for block in found:
        block.compile(backend=backend)
    return len(found)
