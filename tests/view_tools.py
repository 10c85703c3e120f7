"""What the tests of views share: all operations, images, and views of them."""

from dataclasses import fields, is_dataclass

import torch
from torch.nn import functional as F

from tapetum import views as V
from tapetum.views.operation import Operation

NESTED = {"OneOf": {"choices": (V.Gray(1.0), V.Blur(1.0), V.Rotate())}}  # settings that have no default


def kinds() -> list[type[Operation]]:
    """Every operation of the package, found by itself."""
    found, at = [], [Operation]
    while at:
        kind = at.pop()
        at += kind.__subclasses__()
        if is_dataclass(kind) and kind.__module__.startswith("tapetum.") and kind is not V.View:
            found.append(kind)
    return sorted(found, key=lambda kind: kind.__name__)


def made(kind: type[Operation], **settings) -> Operation:
    """An operation as its defaults have it; it happens for certain unless `p` is given."""
    if "p" in {f.name for f in fields(kind)}:
        settings = {"p": 1.0} | settings
    return kind(**NESTED.get(kind.__name__, {}), **settings)


def photos(count: int = 6, side: int = 48, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Smooth random images [B, C, S, S] uint8 with all levels, as photographs have them."""
    noise = torch.rand(count, channels, 9, 9, generator=torch.Generator().manual_seed(seed))
    x = F.interpolate(noise, (side, side), mode="bicubic", align_corners=True)
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return ((x - low) / (high - low) * 255).round().to(torch.uint8)


def drawn(view, images, index=None, epoch=0, image_size=None, sizes=None):
    """Views of images, and their geometry."""
    index = torch.arange(len(images)) if index is None else index
    sizes = torch.full((len(images), 2), images.shape[-1]) if sizes is None else sizes
    return V.draw(view, images, sizes, V.Draw(7, epoch, 0, index), image_size or images.shape[-1])


def parameters(step, count, side=224, size=None, seed=0):
    """What a step draws for many images."""
    u = torch.rand(count, step.SLOTS, generator=torch.Generator().manual_seed(seed))
    return step.draw(u, torch.full((count, 2), side) if size is None else size.expand(count, 2), side)


def painted(step, images, **given):
    """Images (uint8) as floats, painted with these parameters, the same for all."""
    on = {"on": torch.ones(len(images), dtype=torch.bool)}
    return step.paint(images.float() / 255, on | {n: torch.full((len(images),), v) for n, v in given.items()})
