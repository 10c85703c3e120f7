"""Paint hidden patches' pixels from a ConvNet that computes only where others are shown. arXiv:2301.03580"""

import torch

from tapetum import views
from tapetum.base.settings import Count, Share
from tapetum.methods.method import Method
from tapetum.parts.losses import squared_error
from tapetum.parts.masks import split, take
from tapetum.parts.predictors import patchify
from tapetum.parts.sparse import last_map, pyramid, shown_maps
from tapetum.parts.targets import normed
from tapetum.parts.unet import UNetDecoder


class SparK(Method):
    """A patch is a place of the encoder's last map. The authors' code also normalises the maps that enter the
    decoder.

    Args:
        hidden: share of the patches that are hidden.
        width: of the decoder at its coarsest; it halves with every doubling of the resolution.
        normalise: whether each hidden patch is painted relative to its own mean and spread.
    """

    needs = "maps"

    def __init__(self, encoder, *, hidden: Share = 0.6, width: Count = 512, normalise: bool = True):
        super().__init__(encoder)
        self.views = {"x": views.Crop(scale=(0.67, 1.0)) + views.Flip()}
        self.grid = last_map(encoder)[1]
        stages = pyramid(encoder)
        self.stages, channels = list(stages), encoder.spec.form.channels
        self.decoder = UNetDecoder(list(stages.values()), encoder.image_size, width, channels)
        self.hidden, self.normalise = hidden, normalise

    def loss(self, batch, t):
        x = batch["x"]
        _, hide = split(batch.random("mask", (self.grid**2,)), self.hidden)  # [B, M]
        shown = torch.ones(len(x), self.grid**2, dtype=torch.bool, device=x.device).scatter(1, hide, False)
        shown = shown.view(-1, 1, self.grid, self.grid)
        _, maps = shown_maps(self.encoder, x, shown, self.stages)
        painted = self.decoder(maps, shown)  # [B, C, S, S]
        painted, target = (take(patchify(y, x.shape[-1] // self.grid), hide) for y in (painted, x))
        if self.normalise:
            target = normed(target, eps=1e-6)
        return {"loss": squared_error(painted, target)}
