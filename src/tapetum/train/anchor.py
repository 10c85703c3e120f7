"""Continued pretraining that stays close: the features that the encoder began with hold it."""

import copy
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from tapetum.encoders.encoder import Encoder, Features
from tapetum.methods.method import Method
from tapetum.parts.losses import cosine_distance
from tapetum.views import Batch
from tapetum.views.nest import tensors


def anchored(kind: type[Method], weight: float) -> type[Method]:
    """The method with a second term: `weight` times the drift of a view's features from what they were at
    the beginning, by a frozen copy (as arXiv:2210.02871 holds hidden states to a teacher's)."""

    class Anchored(kind):  # type: ignore[valid-type, misc]
        began: Encoder

        @wraps(kind.__init__)  # type: ignore[misc]
        def __init__(self, encoder: Encoder, **settings: Any):
            began = copy.deepcopy(encoder)  # before the method adds anything to it
            super().__init__(encoder, **settings)
            if began.spec != self.encoder.spec:
                began.pool_patches()  # as the method had its encoder do
            self.began = began.requires_grad_(False)  # its batch norms take the batch's statistics, too

        def loss(self, batch: Batch, t: float) -> dict[str, Any]:
            out = super().loss(batch, t)
            x = next(tensors({name: batch[name] for name in self.views}))
            with torch.no_grad():
                was = self.began.features(x)
            gap = drift(self.encoder.features(x), was)
            return {**out, "loss": out["loss"] + weight * gap, "drift": gap}

    Anchored.__name__ = kind.__name__  # in sentences it is the method that was asked for
    return Anchored


def drift(now: Features, was: Features) -> Tensor:
    """1 - cos of an image's vectors, and of its tokens where there are some: the mean of both means."""
    gaps = [cosine_distance(now.vector, was.vector)]
    if now.tokens is not None and was.tokens is not None:
        gaps.append(cosine_distance(now.tokens, was.tokens))
    return torch.stack(gaps).mean() / 2
