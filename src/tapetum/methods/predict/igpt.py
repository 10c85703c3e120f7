"""Predict the next patch's pixels from the patches before it. arXiv:2401.08541"""

import torch

from tapetum import views
from tapetum.base.settings import Count
from tapetum.methods.method import Method
from tapetum.parts.losses import precise
from tapetum.parts.masks import masked_mean
from tapetum.parts.patchwise import patchwise
from tapetum.parts.predictors import patchify
from tapetum.parts.targets import normed


@precise
def error_after(said, target, shown):
    """The mean squared difference of rows [B, N - 1, D] that stand for the patches from the second on, over
    those that are not among an image's first `shown` [B]."""
    place = torch.arange(1, said.shape[1] + 1, device=shown.device)
    return masked_mean((said - target).square().mean(2), place >= shown[:, None])


class IGPT(Method):
    """iGPT's objective as AIM has it: where iGPT guesses the class of the next pixel's colour, with a
    softmax, a patch's pixels are regressed.

    Args:
        prefix: whether a random number of first patches, which are not predicted, is seen by all, as in AIM;
            it makes the encoder used to the full attention that it is later evaluated with.
        width: width of the head.
        depth: number of the head's blocks.
        normalise: whether each patch is painted relative to its own mean and spread.
    """

    needs = "tokens"

    def __init__(
        self, encoder, *, prefix: bool = True, width: Count = 2048, depth: Count = 12, normalise: bool = True
    ):
        super().__init__(encoder)
        encoder.pool_patches()
        self.views = {"x": views.Crop(scale=(0.4, 1.0)) + views.Flip()}
        self.head = patchwise(encoder.dim, width, depth, encoder.spec.form.channels * encoder.patch**2)
        self.prefix, self.normalise = prefix, normalise

    def loss(self, batch, t):
        x, n = batch["x"], self.encoder.grid**2
        shown = 1 + (batch.random("prefix") * (n - 1) * self.prefix).long()  # [B], of N patches
        said = self.head(self.encoder.features(x, causal=shown).tokens[:, :-1])  # [B, N - 1, C*p*p]
        target = patchify(x, self.encoder.patch)[:, 1:]
        if self.normalise:
            target = normed(target, eps=1e-6)
        return {"loss": error_after(said, target, shown)}
