"""The few things that several processes must agree on; with one process each is the identity."""

import os
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them, from 0."""
    return dist.get_rank() if world() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):  # every process's loss pulls on every process's rows
        gradient = gradient.clone(memory_format=torch.contiguous_format)  # others may need it as it is
        dist.all_reduce(gradient)
        return gradient.chunk(world())[rank()]


def gather(x: torch.Tensor) -> torch.Tensor:
    """x [B, ...] of this process -> [world * B, ...] of all, in image order; differentiable.

    The loss of a process is a mean over its share, and gradients are averaged over processes afterwards, so
    the backward pass sums what all processes ask of a row.
    """
    return _Gather.apply(x) if world() > 1 else x


def rows(x: torch.Tensor) -> torch.Tensor:
    """Where the rows of x [B, ...] stand in gather(x): [B] int64."""
    return rank() * len(x) + torch.arange(len(x), device=x.device)


def share(x: torch.Tensor) -> torch.Tensor:
    """This process's part [n, ...] of rows x [N, ...] that all have; of gathered rows, its own."""
    return x.tensor_split(world())[rank()]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


def total(x: torch.Tensor) -> torch.Tensor:
    """The sum of x over processes; differentiable."""
    return _Sum.apply(x) if world() > 1 else x


def mean(x: torch.Tensor) -> torch.Tensor:
    """The mean of x over processes; differentiable."""
    return total(x) / world()


@torch.no_grad()
def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over processes, in one message per data type.

    What has a gradient on no process keeps none, so that an optimiser's averages rest as on one process.
    """
    learning = [p for p in parameters if p.requires_grad]
    if world() == 1 or not learning:
        return
    reached = total(torch.tensor([float(p.grad is not None) for p in learning]))
    by_type: dict[torch.dtype, list[torch.Tensor]] = {}
    for p, count in zip(learning, reached.tolist()):
        if count:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            by_type.setdefault(p.grad.dtype, []).append(p.grad)
    for gradients in by_type.values():
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= world()
        for g, part in zip(gradients, flat.split([g.numel() for g in gradients])):
            g.copy_(part.view_as(g))


def start() -> bool:
    """Join the process group that torchrun describes in the environment; True where this joined one."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return False
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", **_meeting())  # numbers stay on the CPU
    return True


def _meeting() -> dict[str, Any]:
    """Where processes find each other, if not where torch looks: torchrun keeps one store through all of its
    restarts, in which they would find those that died (pytorch issues 135712 and 167288). On one machine each
    start gets a part of its own; on several, machines count restarts differently, see docs/clusters.md."""
    said = os.environ
    if said.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or said.get("GROUP_WORLD_SIZE") != "1":
        return {}
    store = dist.TCPStore(said["MASTER_ADDR"], int(said["MASTER_PORT"]), is_master=False)
    own = dist.PrefixStore(f"start {said['TORCHELASTIC_RESTART_COUNT']}", store)
    return {"store": own, "rank": int(said["RANK"]), "world_size": int(said["WORLD_SIZE"])}
