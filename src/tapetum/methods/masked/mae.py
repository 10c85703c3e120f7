"""Paint the pixels of hidden patches from the few that are shown. arXiv:2111.06377"""

import torch

from tapetum import views
from tapetum.base.settings import Count, Share
from tapetum.methods.method import Method
from tapetum.parts.losses import squared_error
from tapetum.parts.masks import split, take
from tapetum.parts.painting import painting
from tapetum.parts.predictors import TokenPredictor, patchify
from tapetum.parts.targets import normed


class MAE(Method):
    """Args:
    hidden: share of the patches that are hidden.
    width: width of the decoder.
    depth: number of the decoder's blocks.
    normalise: whether each hidden patch is painted relative to its own mean and spread.
    """

    needs = "tokens"

    def __init__(
        self, encoder, *, hidden: Share = 0.75, width: Count = 512, depth: Count = 8, normalise: bool = True
    ):
        super().__init__(encoder)
        encoder.pool_patches()
        self.views = {"x": views.mae()}
        out = encoder.spec.form.channels * encoder.patch**2
        self.decoder = TokenPredictor(encoder.dim, encoder.grid, width, depth, out=out)
        self.hidden, self.normalise = hidden, normalise

    def painted(self, batch):
        """What is painted [B, M, C*p*p] at the places hide [B, M], and the patches that stand there."""
        x, grid = batch["x"], self.encoder.grid
        keep, hide = split(batch.random("mask", (grid**2,)), self.hidden)
        painted = self.decoder(self.encoder.tokens(x, keep=keep), keep, hide)
        return painted, hide, take(patchify(x, self.encoder.patch), hide)

    def loss(self, batch, t):
        painted, _, target = self.painted(batch)
        if self.normalise:
            target = normed(target, eps=1e-6)
        return {"loss": squared_error(painted, target)}

    def paint(self, batch):
        painted, hide, own = self.painted(batch)
        if self.normalise:  # mean and spread are then the hidden patch's own
            painted = painted * own.std(-1, unbiased=False, keepdim=True) + own.mean(-1, keepdim=True)
        patches = patchify(batch["x"], self.encoder.patch)
        patches = patches.scatter(1, hide[..., None].expand_as(painted), painted.to(patches))
        hide = torch.zeros_like(patches[..., 0], dtype=torch.bool).scatter(1, hide, True)
        return painting(batch["x"], patches, hide, self.encoder.patch)
