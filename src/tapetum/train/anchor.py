"""Continued pretraining that stays close: the features that the encoder began with hold it."""

import copy
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.encoders.encoder import Encoder, Features
from tapetum.methods.method import Method
from tapetum.parts.losses import precise
from tapetum.views import Batch


def anchored(kind: type[Method], weight: float) -> type[Method]:
    """The method with a second term: `weight` times the drift of a view's features from what they were at
    the beginning, by a frozen copy (as arXiv:2210.02871 holds hidden states to a teacher's)."""

    class Anchored(kind):  # type: ignore[valid-type, misc]
        began: Encoder

        @wraps(kind.__init__)  # type: ignore[misc]
        def __init__(self, encoder: Encoder, **settings: Any):
            began = copy.deepcopy(encoder)  # before the method adds anything to it
            super().__init__(encoder, **settings)
            if getattr(encoder.net, "global_pool", "") == "avg":  # the vector is the same mean in both
                began.pool_patches()
            self.began = began.requires_grad_(False)  # its batch norms take the batch's statistics, too

        def loss(self, batch: Batch, t: float) -> dict[str, Any]:
            out = super().loss(batch, t)
            x = _first(batch[next(iter(self.views))])
            with torch.no_grad():
                was = self.began.features(x)
            gap = drift(self.encoder.features(x), was)
            return {**out, "loss": out["loss"] + weight * gap, "drift": gap}

    Anchored.__name__ = kind.__name__  # in sentences it is the method that was asked for
    return Anchored


def _first(nest: Any) -> Tensor:
    """The first view of a nest of dicts and lists."""
    while not isinstance(nest, Tensor):
        nest = next(iter(nest.values() if isinstance(nest, dict) else nest))
    return nest


def drift(now: Features, was: Features) -> Tensor:
    """1 - cos of an image's vectors, and of its tokens where there are some: the mean of both means."""
    gaps = [away(now.vector, was.vector)]
    if now.tokens is not None and was.tokens is not None:
        gaps.append(away(now.tokens, was.tokens))
    return torch.stack(gaps).mean()


@precise
def away(a: Tensor, b: Tensor) -> Tensor:
    """The mean of 1 - cos over vectors [..., D]."""
    return 1 - F.cosine_similarity(a, b, dim=-1).mean()
