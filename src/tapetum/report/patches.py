"""What a ViT sees in the patches of an image: their main components as colours, and its last attention."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tapetum.base.torchvision_compat import timm
from tapetum.data.source import Source
from tapetum.encoders import Encoder
from tapetum.features import Extractor
from tapetum.report.sheet import picture

SIDE = 112  # of a picture, in pixels
LEAST = 16  # patches below which a picture shows nothing


def pictures(extractor: Extractor, source: Source) -> list[dict[str, Image.Image]]:
    """For each image {"image", "patches", "attention"} as pictures; none where there are too few patches."""
    encoder = extractor.encoder
    if not encoder.gives("maps") and not encoder.gives("tokens"):
        return []
    found = extractor.features(source, out="tokens")
    rows = np.flatnonzero(found.there)
    if found.x.ndim != 3 or found.x.shape[1] < LEAST or not len(rows):
        return []
    colours = components(torch.from_numpy(np.array(found.x[rows], dtype=np.float32)))
    readable = found.source.take(rows)
    squares = int(source.store.squares)
    ready = [encoder.prepare(*readable.read_sized(i, squares)) for i in range(len(rows))]
    pixels = torch.from_numpy(np.stack(ready))
    looks = attention(encoder, pixels)
    shown = []
    for i in range(len(rows)):
        one = {"image": _sized(picture(pixels[i])), "patches": _sized(picture(_square(colours[i])))}
        if looks is not None:
            one["attention"] = _sized(over(pixels[i], _square(looks[i][:, None])))
        shown.append(one)
    return shown


def components(tokens: Tensor) -> Tensor:
    """Tokens [B, N, D] -> their first three main components over all images, each to [0, 1]: [B, N, 3]."""
    flat = tokens.flatten(0, 1).double()
    flat = flat - flat.mean(0)
    _, axes = torch.linalg.eigh(flat.T @ flat)
    found = flat @ axes[:, -3:].flip(1)
    if found.shape[1] < 3:
        found = torch.cat([found, found.new_zeros(len(found), 3 - found.shape[1])], 1)
    low, high = torch.quantile(
        found[:: max(1, len(found) // 10_000)], torch.tensor([0.02, 0.98]).double(), dim=0
    )
    found = ((found - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    return found.float().unflatten(0, tokens.shape[:2])


@torch.no_grad()
def attention(encoder: Encoder, pixels: Tensor) -> Tensor | None:
    """How much the last block's class token looks at each patch, the mean over heads [B, N], largest 1.

    Without a class token it is how much all patches look at each. None where the backbone is no plain ViT.
    """
    net: Any = encoder.net
    if not isinstance(net, timm.models.vision_transformer.VisionTransformer):
        return None
    block = net.blocks[-1].attn
    if not all(hasattr(block, name) for name in ("qkv", "num_heads", "scale", "q_norm", "k_norm")):
        return None
    given: list[Tensor] = []
    handle = block.register_forward_pre_hook(lambda _, x: given.append(x[0]))
    training, home = encoder.training, encoder.mean.device
    try:
        encoder.eval()(pixels.to(home).float() / 255)
    finally:
        handle.remove()
        encoder.train(training)
    return _looks(block, given[0], net.num_prefix_tokens)


def _looks(block: nn.Module, x: Tensor, prefix: int) -> Tensor:
    """The attention of one block that is given x [B, P + N, D]."""
    own: Any = block
    q, k, _ = own.qkv(x).unflatten(2, (3, own.num_heads, -1)).permute(2, 0, 3, 1, 4)  # [B, H, P + N, d]
    weights = (own.q_norm(q) * own.scale @ own.k_norm(k).mT).softmax(-1).mean(1)  # [B, P + N, P + N]
    look = weights[:, 0, prefix:] if prefix else weights.mean(1)
    return (look / look.amax(1, keepdim=True)).cpu()


def _square(x: Tensor) -> Tensor:
    """[N, C] row by row -> [C, H, W]."""
    side = round(x.shape[0] ** 0.5)
    return x.T.unflatten(1, (side, -1))


def over(pixels: Tensor, look: Tensor) -> Image.Image:
    """An image uint8 [C, S, S], dark where the attention [1, h, w] in [0, 1] is small."""
    image = picture(pixels)
    light = Image.fromarray((look[0].numpy() * 255).astype(np.uint8)).resize(
        image.size, Image.Resampling.BICUBIC
    )
    return Image.composite(
        image, Image.new("RGB", image.size, "#10151c"), light.point(lambda v: 40 + v * 215 // 255)
    )


def _sized(image: Image.Image) -> Image.Image:
    way = Image.Resampling.NEAREST if image.width < SIDE else Image.Resampling.BOX
    return image.resize((SIDE, SIDE), way)
