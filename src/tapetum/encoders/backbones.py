"""How timm's backbones are asked for everything in one pass."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tapetum.base.errors import TapetumError
from tapetum.base.torchvision_compat import timm

VisionTransformer = timm.models.vision_transformer.VisionTransformer
Eva = timm.models.eva.Eva  # ViTs with rotary positions, DINOv3's among them
Given = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, list[Tensor], Tensor | None]


def patch(net: nn.Module) -> int | None:
    """The side of a patch in pixels, or None where there are none that could be kept or hidden."""
    return net.patch_embed.feat_ratio() if isinstance(net, VisionTransformer | Eva) else None


def transformer(
    net: Any,
    x: Tensor,
    *,
    keep: Tensor | None,
    hide: Tensor | None,
    blank: Tensor | None,
    layers: Sequence[int],
    causal: bool | Tensor,
) -> Given:
    """A ViT's vector [B, D], prefix [B, P, D], tokens [B, K, D], no maps, the asked layers, and the patches'
    embeddings [B, N, D]."""
    if wrong := [i for i in layers if not 0 <= i < len(net.blocks)]:
        raise TapetumError(
            f"there is no block {wrong[0]}; this backbone has blocks 0 to {len(net.blocks) - 1}."
        )
    _check_size(net, x)
    x = net.patch_embed(x)  # [B, H, W, D] where sizes may vary, else [B, N, D]
    embedded = x.flatten(1, -2)
    if hide is not None:
        assert blank is not None
        x = torch.where(hide.view(*x.shape[:-1], 1), blank.to(x.dtype), x)
    rope: Any = None
    if isinstance(net, Eva):
        x, rope = net._pos_embed(x)
    else:
        x = net._pos_embed(x)
    by_block = getattr(net, "rope_mixed", False)  # rotary positions of each block's own: [L, heads, N, R]
    prefix = net.num_prefix_tokens
    if keep is not None:
        shown = x[:, prefix:].gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([x[:, :prefix], shown], 1)
        if rope is not None:  # [N, R] -> [B, 1, K, R]
            rope = rope[:, :, keep].transpose(1, 2) if by_block else rope[keep][:, None]
    x = net.norm_pre(x)
    mask = {} if causal is False else {"attn_mask": _causal(net, x, causal)}
    between = []
    for i, block in enumerate(net.blocks):
        x = block(x, rope=rope[i] if by_block else rope, **mask) if isinstance(net, Eva) else block(x, **mask)
        if i in layers:
            between.append(x)
    x = net.norm(x)
    vector = net.forward_head(x, pre_logits=True)
    if isinstance(net.norm, nn.Identity):
        x = net.fc_norm(x)  # networks that normalise after pooling have their only norm there
    return vector, x[:, :prefix], x[:, prefix:], None, between, embedded


def _check_size(net: Any, x: Tensor) -> None:
    height, width = x.shape[-2:]
    side = net.patch_embed.feat_ratio()
    if (height % side or width % side) and not getattr(net.patch_embed, "dynamic_img_pad", False):
        raise TapetumError(f"images of {height} x {width} pixels do not divide into patches of {side}.")


def _causal(net: Any, x: Tensor, causal: bool | Tensor) -> Tensor:
    """What is added to the attention so that a token sees itself, those before it, and the first patches that
    all see: [N, N] or, where these are given by image, [B, 1, N, N]."""
    if "attn_mask" not in inspect.signature(net.blocks[0].forward).parameters:
        raise TapetumError(f"the blocks of {type(net).__name__} take no attention mask; it cannot be causal.")
    n = x.shape[1]
    later = torch.full((n, n), -torch.inf, device=x.device, dtype=x.dtype).triu(1)
    if not isinstance(causal, Tensor):
        return later
    free = torch.arange(n, device=x.device) < net.num_prefix_tokens + causal[:, None]  # [B, N]
    return later.where(~free[:, None, None], 0.0)


def other(net: Any, x: Tensor, layers: Sequence[int]) -> Given:
    """Any other backbone's vector [B, D] and its tokens or maps, judged by the shape; no layers."""
    if layers:
        raise TapetumError("only ViTs give the output of single blocks.")
    if not hasattr(net, "forward_features") or not hasattr(net, "forward_head"):
        y = net(x)
        return (y.mean((2, 3)), None, None, y, [], None) if y.ndim == 4 else (y, None, None, None, [], None)
    x = net.forward_features(x)
    vector = net.forward_head(x, pre_logits=True)
    if x.ndim == 3:
        prefix = getattr(net, "num_prefix_tokens", 0)
        return vector, x[:, :prefix], x[:, prefix:], None, [], None
    if x.ndim == 4 and getattr(net, "output_fmt", "NCHW") == "NHWC":
        x = x.permute(0, 3, 1, 2)
    return vector, None, None, x if x.ndim == 4 else None, [], None
