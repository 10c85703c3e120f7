"""Predict a ConvNet's features where blocks are hidden, as a slow copy sees them. arXiv:2408.07514"""

import torch
from torch import nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base.settings import Count, Positive, Share
from tapetum.methods.method import Method
from tapetum.parts.jepa_masks import hidden_places, target_blocks
from tapetum.parts.losses import precise
from tapetum.parts.masks import masked_mean
from tapetum.parts.predictors import separable
from tapetum.parts.schedule import Ramp, ShareRamp
from tapetum.parts.sparse import last_map, shown_maps
from tapetum.parts.state import EMA


@precise
def distance(said, target, chosen):
    """2 - 2 cos between the places of two maps [B, D, G, G], over the chosen ones [B, 1, G, G]."""
    cosine = F.cosine_similarity(said, target, dim=1)  # [B, G, G]
    return masked_mean((2 - 2 * cosine).flatten(1), chosen.flatten(1))


class CNNJEPA(Method):
    """Hidden are places of the encoder's last map. The authors' code has a smooth L1 distance of unit
    vectors, and ReLU after the predictor, which fits ResNets alone.

    Args:
        targets: number of blocks that are hidden; fewer where they would leave nothing.
        scale: a block's share of the image's area, from and to.
        ratio: a block's height over its width, from and to.
        blocks: share of the images of which blocks are hidden; of the others random places are.
        hidden: share of the places that are hidden at random.
        depth: number of the predictor's layers.
        momentum: how much of itself the teacher keeps at each step.
    """

    needs = "maps"

    def __init__(
        self,
        encoder,
        *,
        targets: Count = 4,
        scale: tuple[Share, Share] = (0.15, 0.2),
        ratio: tuple[Positive, Positive] = (0.75, 1.5),
        blocks: Share = 0.75,
        hidden: Share = 0.6,
        depth: Count = 3,
        momentum: ShareRamp = Ramp(0.996, 1.0),
    ):
        super().__init__(encoder)
        self.views = {"x": views.mae()}
        dim, self.grid, _ = last_map(encoder)
        self.blank = nn.Parameter(0.02 * torch.randn(dim))
        self.predictor = separable(dim, depth)
        self.teacher = EMA(encoder)
        self.targets, self.scale, self.ratio = targets, scale, ratio
        self.blocks, self.hidden, self.momentum = blocks, hidden, momentum

    def loss(self, batch, t):
        x = batch["x"]
        targets = target_blocks(batch, self.grid, self.targets, self.scale, self.ratio)
        hide = hidden_places(batch, targets, self.grid, self.blocks, self.hidden)  # [B, 1, G, G]
        seen, _ = shown_maps(self.encoder, x, ~hide)  # [B, D, G, G]
        said = self.predictor(torch.where(hide, self.blank[:, None, None].to(seen.dtype), seen))
        return {"loss": distance(said, self.teacher.chain[0].maps(x), hide)}

    def after_step(self, t, keep):
        self.teacher.follow(self.momentum(t), self.encoder)

    def product(self):
        return self.teacher.chain[0]
