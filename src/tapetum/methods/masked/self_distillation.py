"""Go on with MAE; then begin again from the first weights, and stay near what that gave. arXiv:2210.02871"""

from typing import Annotated

import torch
from torch import nn

from tapetum.base.settings import Amount, Count, Share
from tapetum.methods.masked.mae import MAE
from tapetum.parts.losses import squared_error
from tapetum.parts.state import EMA, Frozen


class SelfDistillation(MAE):
    """Args:
    first: share of training that makes the teacher, from the weights that the encoder begins with.
    weight: of the mean squared distance between tokens of student and teacher (the paper sums it).
    hidden: share of the patches that are hidden.
    width: width of the decoder.
    depth: number of the decoder's blocks.
    normalise: whether each hidden patch is painted relative to its own mean and spread.
    """

    def __init__(
        self,
        encoder,
        *,
        first: Annotated[float, 0.01, 0.99] = 0.5,
        weight: Amount = 1.0,
        hidden: Share = 0.75,
        width: Count = 512,
        depth: Count = 8,
        normalise: bool = True,
    ):
        super().__init__(encoder, hidden=hidden, width=width, depth=depth, normalise=normalise)
        self.original = Frozen(nn.ModuleList([encoder, self.decoder]))
        self.teacher = EMA(encoder)
        self.register_buffer("restarted", torch.zeros((), dtype=torch.bool))
        warmup = 0.1 * (1 - first)
        self.rates = (("", lambda t: 1.0 if t < first else min(1.0, (t - first) / warmup)),)
        self.first, self.weight = first, weight

    def loss(self, batch, t):
        painting = super().loss(batch, t)["loss"]
        if t < self.first:
            return {"loss": painting, "distance": 0.0}
        networks = self.encoder, self.teacher.chain[0]
        seen, wanted = (net.features(batch["x"]) for net in networks)
        distance = squared_error(
            torch.cat([seen.prefix, seen.tokens], 1), torch.cat([wanted.prefix, wanted.tokens], 1)
        )
        return {"loss": painting + self.weight * distance, "distance": distance}

    def after_step(self, t, keep):
        if t >= self.first and not self.restarted:
            self.teacher.follow(0.0, self.encoder)  # takes over everything
            self.original.restore(self.encoder, self.decoder)
            self.restarted.fill_(True)
