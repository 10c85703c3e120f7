"""Sends a batch through a network a few images at a time, and keeps the activations of those few alone."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tapetum.base.rows import joined, taken

Given = TypeVar("Given")
BatchNorm = nn.modules.batchnorm._BatchNorm  # of any number of dimensions, and whatever is made from it


class Chunked(nn.Module):
    """A large network through which a batch may go in chunks: in it images do not see each other, but for
    batch norm, whose statistics are then a chunk's.

    Attributes:
        chunk: rows that go through at once; None for all.
    """

    chunk: int | None = None


@contextmanager
def in_chunks(module: nn.Module, size: int | None) -> Iterator[None]:
    """Inside, each large network of a module takes at most `size` rows at once, forwards and backwards."""
    parts = [part for part in module.modules() if isinstance(part, Chunked)]
    for part in parts:
        part.chunk = size
    try:
        yield
    finally:
        for part in parts:
            part.chunk = None


def by_chunks(module: Chunked, f: Callable[..., Given], x: Tensor, *more: Any) -> Given:
    """f(x, *more), computed by `module` for at most `module.chunk` rows at a time.

    Tensors among what f takes and gives have a row for each of x [B, ...]. No chunk's activations are kept:
    the backward pass computes each chunk once more (arXiv:1604.06174), dropout and all, so the gradient is
    that of the whole batch whatever the loss, as in gradient caching (arXiv:2101.06983).
    """
    if module.chunk is None or len(x) <= module.chunk:
        return f(x, *more)
    count = -(-len(x) // module.chunk)
    ends = [len(x) * i // count for i in range(count + 1)]  # chunks of one size, give or take one
    run: Any = f
    if torch.is_grad_enabled():
        run = partial(checkpoint, f, use_reentrant=False, context_fn=lambda: (nullcontext(), unmoved(module)))
    return joined([run(*taken([x, *more], slice(a, b))) for a, b in itertools.pairwise(ends)])


@contextmanager
def unmoved(module: nn.Module) -> Iterator[None]:
    """Inside, batch norms leave their running statistics as they are: a chunk was counted already."""
    norms = [m for m in module.modules() if isinstance(m, BatchNorm) and m.num_batches_tracked is not None]
    before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]  # type: ignore[union-attr]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)  # type: ignore[union-attr]


def mixes(module: nn.Module) -> bool:
    """Whether images of one chunk see each other: a large network's batch norm that learns."""
    large = [part for part in module.modules() if isinstance(part, Chunked)]
    return any(isinstance(m, BatchNorm) and m.training for part in large for m in part.modules())
