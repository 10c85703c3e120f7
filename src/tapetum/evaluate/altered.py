"""Altered images as an encoder gets them: drawn views, growing noise, growing attacks."""

import torch
from torch import Tensor

from tapetum import views
from tapetum.base import random
from tapetum.features import Extractor, View
from tapetum.measure.manifold import pgd

_AT_ONCE = 16  # images whose noise is drawn at once: 64-bit numbers for each pixel


def drawn(recipe: views.View, number: int, seed: int = 0) -> View:
    """The `number`-th view of each image that the recipe of views draws."""

    def apply(pixels: Tensor, keys: Tensor) -> Tensor:
        side = pixels.shape[-1]
        rng = views.Draw(seed, number, 0, keys)
        made, _ = views.draw(recipe, pixels, torch.full((len(pixels), 2), side), rng, side)
        return made

    return View({"operations": repr(recipe), "number": number, "seed": seed}, apply)


def noisy(strength: float) -> View:
    """White noise of this standard deviation, pixels lying in [0, 1]; an image has one pattern for all."""

    def apply(pixels: Tensor, keys: Tensor) -> Tensor:
        parts = zip(pixels.split(_AT_ONCE), keys.split(_AT_ONCE))
        return torch.cat(
            [(unit(x) + strength * random.normal(k, x.shape[1:]).to(x.device)).clamp(0, 1) for x, k in parts]
        )

    return View({"noise": strength}, apply)


def attacked(extractor: Extractor, epsilon: float, rounds: int = 5) -> View:
    """Pixels, in [0, 1], changed by at most `epsilon` so that this encoder's features move far."""

    def apply(pixels: Tensor, keys: Tensor) -> Tensor:
        with torch.inference_mode(False):  # which is on around it, and would keep gradients away
            parts = [random.more(k, pixels.shape[1:]) for k in keys.split(_AT_ONCE)]
            start = 2 * torch.cat(parts).to(pixels.device) - 1
            return pgd(extractor.given, unit(pixels.clone()), epsilon, start, rounds)

    return View({"attack": "pgd", "epsilon": epsilon, "rounds": rounds}, apply)


def unit(pixels: Tensor) -> Tensor:
    """Pixels as floats in [0, 1]."""
    return pixels.float().div(255) if pixels.dtype == torch.uint8 else pixels.float()
