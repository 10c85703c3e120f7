"""DINO and iBOT with a head each, balanced targets, and features that spread evenly. arXiv:2304.07193"""

from typing import Literal

import torch
from torch import nn

from tapetum import views
from tapetum.base.settings import Amount, Count, Positive, Share, Whole
from tapetum.methods.method import Method
from tapetum.parts.assign import sinkhorn
from tapetum.parts.blocks import sometimes
from tapetum.parts.crops import encoded
from tapetum.parts.koleo import koleo
from tapetum.parts.losses import across, soft_cross_entropy
from tapetum.parts.prototypes import centred, guesser, patch_cross_entropy
from tapetum.parts.schedule import PositiveRamp, Ramp, ShareRamp
from tapetum.parts.state import EMA


class DINOv2(Method):
    """Args:
    small_crops: how many small crops each image gives besides the two large ones.
    masked: least and largest share of a large crop's patches that are hidden.
    chance: share of the large crops of which any are hidden.
    centring: how the teacher's guesses are kept apart: "sinkhorn", or as in DINO by a running "mean".
    spread: weight of KoLeo on the images of each large crop, as in the code (the paper: of the first alone).
    hidden: width of a head's hidden layers.
    dim: width of the bottleneck before the prototypes.
    prototypes: number of classes to guess among, for images and for patches.
    temperature: the student's.
    teacher_temperature: the teacher's, lower and so sharper.
    momentum: how much of itself the teacher keeps at each step.
    centre_momentum: how much of themselves the two running means keep at each step.
    frozen: share of training during which the prototypes stand still.
    """

    needs = "tokens"

    def __init__(
        self,
        encoder,
        *,
        small_crops: Whole = 8,
        masked: tuple[Share, Share] = (0.1, 0.5),
        chance: Share = 0.5,
        centring: Literal["sinkhorn", "mean"] = "sinkhorn",
        spread: Amount = 0.1,
        hidden: Count = 2048,
        dim: Count = 256,
        prototypes: Count = 131072,
        temperature: Positive = 0.1,
        teacher_temperature: PositiveRamp = Ramp(0.04, 0.07, until=0.06, shape="linear"),
        momentum: ShareRamp = Ramp(0.994, 1.0),
        centre_momentum: Share = 0.9,
        frozen: Share = 0.01,
    ):
        super().__init__(encoder)
        self.views = self.crops(small_crops)
        encoder.add_blank()
        self.heads = nn.ModuleList(guesser(encoder.dim, hidden, dim, prototypes) for _ in range(2))
        self.teacher = EMA(encoder, self.heads)
        self.register_buffer("centres", torch.zeros(2, prototypes))  # of images, of patches
        self.rates = ((r"heads\.\d\.1\.", lambda t: float(t >= frozen)),)
        self.masked, self.chance, self.centring, self.spread = masked, chance, centring, spread
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.momentum, self.centre_momentum = momentum, centre_momentum

    def crops(self, small_crops):
        """The views."""
        return views.dino(small_crops, divide=0.32)

    def loss(self, batch, t):
        x, sharp = torch.cat(batch["large"]), self.teacher_temperature(t)  # [2B, C, S, S]
        hidden = sometimes(batch, 2, x.shape[-1] // self.encoder.patch, self.masked, self.chance)  # [2B, N]
        seen = self.encoder.features(x, hide=hidden)
        vectors = torch.cat([seen.vector, *encoded(self.encoder, batch["small"])])  # [V*B, D]
        images = (self.heads[0](vectors) / self.temperature).split(len(batch))  # V x [B, K]
        patches = self.heads[1](seen.tokens[hidden]) / self.temperature  # [M, K]

        encoder, heads = self.teacher.chain
        whole = encoder.features(x)
        scores = heads[0](whole.vector), heads[1](whole.tokens[hidden])  # [2B, K], [M, K]
        if self.centring == "sinkhorn":
            targets = [sinkhorn(s, sharp) for s in scores]
        else:
            targets = [centred(s, centre, sharp) for s, centre in zip(scores, self.centres)]
        terms = {
            "image_loss": across(soft_cross_entropy, images, targets[0].chunk(2)),
            "patch_loss": patch_cross_entropy(patches, targets[1], hidden),
            "spread_loss": sum(map(koleo, seen.vector.chunk(2))),
        }
        sums = torch.stack([s.sum(0, dtype=self.centres.dtype) for s in scores])  # [2, K]
        counts = self.centres.new_tensor([len(s) for s in scores])
        return {
            "loss": terms["image_loss"] + terms["patch_loss"] + self.spread * terms["spread_loss"],
            **terms,
            "keep": {"sums": sums[None], "counts": counts[None]},
        }

    def after_step(self, t, keep):
        means = keep["sums"].sum(0) / keep["counts"].sum(0).clamp(min=1)[:, None]
        self.centres.lerp_(means, 1 - self.centre_momentum)
        self.teacher.follow(self.momentum(t), self.encoder, self.heads)

    def product(self):
        return self.teacher.chain[0]
