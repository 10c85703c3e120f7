"""How timm's backbones are asked for everything in one pass."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tapetum.base.errors import TapetumError
from tapetum.base.torchvision_compat import timm

VisionTransformer = timm.models.vision_transformer.VisionTransformer
Eva = timm.models.eva.Eva  # ViTs with rotary positions, DINOv3's among them


def patch(net: nn.Module) -> int | None:
    """The side of a patch in pixels, or None where there are none."""
    if not isinstance(net, VisionTransformer | Eva):
        return None
    size = net.patch_embed.patch_size
    return size[0] if isinstance(size, tuple) else size


def has_maps(net: nn.Module) -> bool:
    """Whether the backbone gives maps, or tokens that lie on a grid."""
    return hasattr(net, "forward_features") or patch(net) is not None


def transformer(
    net: nn.Module,
    x: Tensor,
    keep: Tensor | None,
    hide: Tensor | None,
    blank: Tensor | None,
    layers: Sequence[int],
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor, None, list[Tensor]]:
    """A ViT's vector [B, D], prefix [B, P, D], tokens [B, K, D], no maps, and the asked layers."""
    x = net.patch_embed(x)  # [B, H, W, D] where sizes may vary, else [B, N, D]
    if hide is not None:
        assert blank is not None
        x = torch.where(hide.view(*x.shape[:-1], 1), blank.to(x), x)
    rope = None
    if isinstance(net, Eva):
        x, rope = net._pos_embed(x)
    else:
        x = net._pos_embed(x)
    prefix = net.num_prefix_tokens
    if keep is not None:
        shown = x[:, prefix:].gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([x[:, :prefix], shown], 1)
        rope = _kept_positions(rope, keep)
    if hasattr(net, "norm_pre"):
        x = net.norm_pre(x)
    mask = None
    if causal:
        n = x.shape[1]
        mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
    between = []
    for i, block in enumerate(net.blocks):
        x = block(x, rope=rope, attn_mask=mask) if isinstance(net, Eva) else _block(block, x, mask)
        if i in layers:
            between.append(x)
    x = net.norm(x)
    vector = net.forward_head(x, pre_logits=True)
    return vector, x[:, :prefix], x[:, prefix:], None, between


def _block(block: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    return block(x) if mask is None else block(x, attn_mask=mask)


def _kept_positions(rope: "Tensor | list[Tensor] | None", keep: Tensor) -> "Tensor | list[Tensor] | None":
    """The rotary positions of the shown patches, for each image: [B, 1, K, R]."""
    if rope is None:
        return None
    if isinstance(rope, list) or rope.ndim != 2:
        raise TapetumError("this backbone's rotary positions differ between blocks; it cannot keep patches.")
    return rope[keep][:, None]


def convolutional(
    net: nn.Module, x: Tensor, layers: Sequence[int]
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """Any other backbone's vector [B, D] and, where it has them, maps [B, C, H, W]; no layers."""
    if layers:
        raise TapetumError("only ViTs give the output of single blocks.")
    if hasattr(net, "forward_features") and hasattr(net, "forward_head"):
        maps = net.forward_features(x)
        vector = net.forward_head(maps, pre_logits=True)
        if maps.ndim == 4 and maps.shape[1] != getattr(net, "num_features", maps.shape[1]):
            maps = maps.permute(0, 3, 1, 2)  # some of timm's give [B, H, W, C]
        return vector, maps if maps.ndim == 4 else None, []
    y = net(x)
    return (y.mean((2, 3)), y, []) if y.ndim == 4 else (y, None, [])
