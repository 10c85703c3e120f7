"""DINO on images, and the same on hidden patches, which a slow copy of the network sees. arXiv:2111.07832"""

import torch
from torch import nn

from tapetum import views
from tapetum.base.settings import Count, Positive, Share, Whole
from tapetum.methods.method import Method
from tapetum.parts.blocks import sometimes
from tapetum.parts.crops import encoded
from tapetum.parts.losses import across, soft_cross_entropy
from tapetum.parts.prototypes import centred, guesser, patch_cross_entropy
from tapetum.parts.schedule import PositiveRamp, Ramp, ShareRamp
from tapetum.parts.state import EMA


class IBOT(Method):
    """Args:
    small_crops: how many small crops each image gives besides the two large ones.
    masked: least and largest share of a large crop's patches that are hidden.
    chance: share of the large crops of which any are hidden.
    shared_head: one head for images and patches, or each their own.
    hidden: width of a head's hidden layers.
    dim: width of the bottleneck before the prototypes.
    prototypes: number of classes to guess among.
    temperature: the student's.
    teacher_temperature: the teacher's, lower and so sharper.
    momentum: how much of itself the teacher keeps at each step.
    centre_momentum: how much of themselves the two centres keep at each step.
    frozen: share of training during which the prototypes stand still.
    """

    needs = "tokens"

    def __init__(
        self,
        encoder,
        *,
        small_crops: Whole = 10,
        masked: tuple[Share, Share] = (0.1, 0.5),
        chance: Share = 0.5,
        shared_head: bool = True,
        hidden: Count = 2048,
        dim: Count = 256,
        prototypes: Count = 8192,
        temperature: Positive = 0.1,
        teacher_temperature: PositiveRamp = Ramp(0.04, 0.07, until=0.04, shape="linear"),
        momentum: ShareRamp = Ramp(0.996, 1.0),
        centre_momentum: Share = 0.9,
        frozen: Share = 0.01,
    ):
        super().__init__(encoder)
        self.views = views.dino(small_crops, divide=0.25)
        encoder.add_blank()
        count = 1 if shared_head else 2
        self.heads = nn.ModuleList(guesser(encoder.dim, hidden, dim, prototypes) for _ in range(count))
        self.teacher = EMA(encoder, self.heads)
        self.register_buffer("centres", torch.zeros(2, prototypes))  # of images, of patches
        self.rates = ((r"heads\.\d\.1\.", lambda t: float(t >= frozen)),)
        self.masked, self.chance = masked, chance
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.momentum, self.centre_momentum = momentum, centre_momentum

    def loss(self, batch, t):
        x, sharp = torch.cat(batch["large"]), self.teacher_temperature(t)  # [2B, C, S, S]
        hidden = sometimes(batch, 2, x.shape[-1] // self.encoder.patch, self.masked, self.chance)  # [2B, N]
        seen = self.encoder.features(x, hide=hidden)
        vectors = torch.cat([seen.vector, *encoded(self.encoder, batch["small"])])  # [V*B, D]
        images = (self.heads[0](vectors) / self.temperature).split(len(batch))  # V x [B, K]
        patches = self.heads[-1](seen.tokens[hidden]) / self.temperature  # [M, K]

        encoder, heads = self.teacher.chain
        whole = encoder.features(x)
        of_images, of_patches = heads[0](whole.vector), heads[-1](whole.tokens)  # [2B, K], [2B, N, K]
        dtype = self.centres.dtype
        means = [of_images.mean(0, dtype=dtype), of_patches.mean((0, 1), dtype=dtype)]
        wanted = centred(of_images, self.centres[0], sharp).chunk(2)
        behind = centred(of_patches[hidden], self.centres[1], sharp)
        image_loss = across(soft_cross_entropy, images, wanted)
        patch_loss = patch_cross_entropy(patches, behind, hidden)
        return {
            "loss": image_loss + patch_loss,
            "image_loss": image_loss,
            "patch_loss": patch_loss,
            "keep": {"centres": torch.stack(means)[None]},  # [1, 2, K]
        }

    def after_step(self, t, keep):
        self.centres.lerp_(keep["centres"].mean(0), 1 - self.centre_momentum)
        self.teacher.follow(self.momentum(t), self.encoder, self.heads)

    def product(self):
        return self.teacher.chain[0]
