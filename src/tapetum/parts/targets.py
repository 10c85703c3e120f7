"""What the last blocks of a teacher say of each patch, as targets."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.encoders.chunks import by_chunks
from tapetum.encoders.encoder import Encoder
from tapetum.parts.losses import precise


@torch.no_grad()
def block_outputs(encoder: Encoder, x: Tensor, top: int) -> Tensor:
    """The patches' tokens after each of the last `top` blocks, or all where there are fewer: [K, B, N, D]."""
    net: Any = encoder.net
    last = range(max(0, len(net.blocks) - top), len(net.blocks))
    return torch.stack(encoder.features(x, layers=last).layers)[:, :, net.num_prefix_tokens :]


@torch.no_grad()
def feedforward_outputs(encoder: Encoder, x: Tensor, top: int) -> Tensor:
    """What the feed-forward parts of the last `top` blocks, or of all where there are fewer, add to the
    patches' tokens: [K, B, N, D]."""
    net: Any = encoder.net

    def added(x: Tensor) -> list[Tensor]:
        given: list[Tensor] = []
        hooks = [b.mlp.register_forward_hook(lambda *args: given.append(args[-1])) for b in net.blocks[-top:]]
        try:
            encoder.features(x)
        finally:
            for hook in hooks:
                hook.remove()
        return given

    return torch.stack(by_chunks(encoder, added, x))[:, :, net.num_prefix_tokens :]


@precise
def normed(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Mean 0 and variance 1 along the last axis."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)
