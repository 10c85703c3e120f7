"""Batch normalisation over all processes; torch's own refuses CPU tensors."""

import torch
from torch import Tensor, nn

from tapetum.base import distributed
from tapetum.parts.sparse import follow
from tapetum.parts.state import BatchNorm


def synchronise(module: nn.Module) -> None:
    """Let every batch norm of a module, teachers included, see the batches of all processes. In place."""
    for part in module.modules():
        if isinstance(part, BatchNorm) and not isinstance(part, Synchronised):
            part.__class__ = type(f"Synchronised{type(part).__name__}", (Synchronised, type(part)), {})


class Synchronised:
    """Mixed into a batch norm's class: its statistics in training are those of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or distributed.world() == 1:  # type: ignore[attr-defined]
            return super().forward(x)  # type: ignore[misc]
        y = _normalise(self, x)  # type: ignore[arg-type]
        for name in ("drop", "act"):  # timm's batch norm with activation
            y = getattr(self, name)(y) if hasattr(self, name) else y
        return y


def _normalise(norm: BatchNorm, x: Tensor) -> Tensor:
    axes = [0, *range(2, x.ndim)]
    shape = [1, -1, *(1 for _ in axes[1:])]
    wide = x if x.dtype == torch.float64 else x.float()
    count = x.numel() / x.shape[1] * distributed.world()
    mean = distributed.total(wide.sum(axes)) / count  # [C]
    spread = wide - mean.view(shape)
    variance = distributed.total(spread.square().sum(axes)) / count
    if norm.track_running_stats:
        follow(norm, mean, variance * count / (count - 1))
    y = spread * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        y = y * norm.weight.view(shape) + norm.bias.view(shape)
    return y.to(x.dtype)
