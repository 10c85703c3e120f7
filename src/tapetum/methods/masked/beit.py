"""First learn a code for each patch, then name the codes of hidden patches. arXiv:2106.08254"""

import math
from typing import Annotated

import torch
from torch import nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base.settings import Count, Share
from tapetum.methods.method import Method
from tapetum.parts.blocks import blocks
from tapetum.parts.losses import over_hidden, squared_error
from tapetum.parts.painting import painting
from tapetum.parts.predictors import patchify
from tapetum.parts.tokeniser import Tokeniser, share_used

WARMUP = 0.05  # share of training during which the encoder's rate climbs once the codes stand


class BEiT(Method):
    """Args:
    hidden: share of the patches that are hidden, in blocks.
    first: share of training in which the codes are learnt, on the same images; the paper takes DALL-E's.
    width: width of the networks that learn them.
    depth: number of these networks' layers.
    levels: how many values each digit of a code has; their product is the number of codes.
    """

    needs = "tokens"

    def __init__(
        self,
        encoder,
        *,
        hidden: Share = 0.4,
        first: Annotated[float, 0.01, 0.99] = 0.1,
        width: Count = 256,
        depth: Count = 4,
        levels: tuple[Annotated[int, 2], ...] = (8, 8, 8, 4, 4),
    ):
        super().__init__(encoder)
        encoder.pool_patches()
        self.views = {"x": views.Crop() + views.Flip() + views.Jitter(0.4, 0.4, 0.4, 0.0, p=1.0)}
        encoder.add_blank()
        self.tokeniser = Tokeniser(encoder.spec.form.channels, encoder.patch, width, depth, levels)
        self.head = nn.Linear(encoder.dim, self.tokeniser.count)
        self.rates = (
            (r"^tokeniser\.", lambda t: float(t < first)),
            ("", lambda t: min(1.0, max(0.0, t - first) / WARMUP)),
        )
        self.hidden, self.first = hidden, first

    def loss(self, batch, t):
        x, count = batch["x"], self.tokeniser.count
        if t < self.first:
            drawn, codes = self.tokeniser(x)
            error = squared_error(drawn, patchify(x, self.encoder.patch))
            # until the encoder learns it knows nothing, and its loss is that of guessing
            return {"loss": error + math.log(count), "drawn": error, "codes_used": share_used(codes, count)}
        codes, hide = self.tokeniser.codes(x), blocks(batch, self.encoder.grid, self.hidden)  # [B, N] each
        named = self.head(self.encoder.tokens(x, hide=hide)[hide])  # [R, K]
        loss = over_hidden(F.cross_entropy, named, codes[hide], hide)
        return {"loss": loss, "codes_used": share_used(codes, count)}

    def paint(self, batch):
        x, hide = batch["x"], blocks(batch, self.encoder.grid, self.hidden)
        named = self.head(self.encoder.tokens(x, hide=hide)).argmax(-1)  # [B, N]
        codes = torch.where(hide, named, self.tokeniser.codes(x))
        return painting(x, self.tokeniser.drawn(codes), hide, self.encoder.patch)
