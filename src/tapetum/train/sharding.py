"""Sharded training: weights, gradients and the optimiser's state are split over processes (torch's FSDP2)."""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tapetum.base import distributed
from tapetum.base.errors import TapetumError
from tapetum.train.blocks import blocks_of


def check(optimizer: str | None, micro: Any, share: int) -> None:
    """Refuse what cannot be done with split weights, with TapetumError.

    Args:
        optimizer: its name, None for the usual one.
        micro: the setting `micro_batch`.
        share: images of a process in a step.
    """
    if optimizer == "muon":
        raise TapetumError(
            "muon makes steps orthogonal in bf16, which rounds split matrices otherwise than whole ones; "
            "take another --optimizer.name, or --parallel data."
        )
    if isinstance(micro, int) and micro < share:
        raise TapetumError(
            f"--parallel sharded sends all {share} images of a process through at once, and not {micro} at a "
            "time; leave out --micro-batch (--grad-checkpointing true saves memory), or take --parallel data."
        )


def shard(method: nn.Module, device: torch.device) -> None:
    """Split every weight over all processes, teachers' too; buffers stay whole. In place, and on one process
    nothing at all.

    A block of an encoder is whole while it computes. What stands outside the blocks (heads, decoders,
    prototypes, embeddings) is whole during `method(batch, t)` and its backward pass, and within `opened`.
    """
    if distributed.world() == 1:
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # that a view was returned: none is written to
    method.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    mesh = init_device_mesh(device.type, (distributed.world(),))
    single = {p for p in method.parameters() if not p.ndim}  # one number cannot be split
    for part in [*blocks_of(method), method]:
        fully_shard(part, mesh=mesh, ignored_params=single)
    fully_shard.state(method)._lazy_init()  # type: ignore[attr-defined]  # before a block runs by itself
    given: list[Any] = []  # to a GPU it would bring a batch as a plain dict, and it is there already

    def hide(module: nn.Module, args: tuple) -> tuple:
        given.append(args)
        return ()

    method.register_forward_pre_hook(hide, prepend=True)
    method.register_forward_pre_hook(lambda module, args: given.pop())


def split(tensor: Any) -> bool:
    """Whether a tensor is split over processes, so that this one holds a part of its rows."""
    return hasattr(tensor, "full_tensor")


def is_split(method: nn.Module) -> bool:
    """Whether a method's weights were split, even where they are whole for the moment."""
    return hasattr(method, "unshard")


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if split(tensor) else tensor  # type: ignore[attr-defined]


def full(tensor: Tensor) -> Tensor:
    """A tensor as a whole; all processes ask together."""
    return tensor.full_tensor() if split(tensor) else tensor  # type: ignore[attr-defined]


def whole(module: nn.Module) -> None:
    """Give the first process a module's split weights as a whole, in its CPU's memory, for good: the module
    can be saved then, and trains no more. All processes call it."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for owner in module.modules():
        for name, p in owner.named_parameters(recurse=False):
            if split(p) and p not in made:
                together = full(p.detach())
                made[p] = nn.Parameter(together.cpu(), p.requires_grad) if distributed.rank() == 0 else p
            owner._parameters[name] = made.get(p, p)


def part(tensor: Tensor) -> Tensor:
    """The rows of a whole tensor that this process holds where it is split."""
    rows = -(-len(tensor) // distributed.world())
    return tensor[distributed.rank() * rows : (distributed.rank() + 1) * rows]


@contextmanager
def opened(method: nn.Module) -> Iterator[None]:
    """Within it, the parts of a method may be called, and what stands outside the blocks may change."""
    if not is_split(method):
        yield
        return
    own = dict(method.named_parameters())
    method.unshard()  # type: ignore[operator]
    try:
        yield
    finally:
        with torch.no_grad():
            for name, whole in method.named_parameters():
                if split(own[name]) and not split(whole):
                    own[name].to_local().copy_(part(whole))  # type: ignore[attr-defined]
        method.reshard()  # type: ignore[operator]


def mixing(tensors: list) -> AbstractContextManager:
    """Within it, whole tensors may be computed with beside split ones."""
    if not any(map(split, tensors)):
        return nullcontext()
    from torch.distributed.tensor.experimental import implicit_replication

    return implicit_replication()
