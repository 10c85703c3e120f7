"""A view that lacks patches guesses the prototype that a slow copy gives another. arXiv:2204.07141"""

import torch
from torch import nn

from tapetum import views
from tapetum.base.settings import Amount, Count, Positive, Share, Whole
from tapetum.methods.method import Method
from tapetum.parts.assign import sinkhorn
from tapetum.parts.crops import encoded
from tapetum.parts.heads import Prototypes, mlp
from tapetum.parts.losses import soft_cross_entropy
from tapetum.parts.masks import split
from tapetum.parts.prototypes import mean_entropy
from tapetum.parts.schedule import Ramp, ShareRamp
from tapetum.parts.state import EMA


class MSN(Method):
    """Args:
    small_crops: how many small crops guess besides the large one, with all their patches.
    dropped: share of the large crop's patches that are dropped (ViT-B 0.3, ViT-L 0.7).
    hidden: width of the projector's hidden layers.
    dim: width of what it gives.
    prototypes: number of classes to guess among.
    temperature: of the guesses.
    teacher_temperature: of the targets, lower and so sharper.
    iterations: of Sinkhorn's balancing of the targets; 0 turns it off.
    spread: weight of the mean guess's entropy, which keeps all prototypes in use.
    momentum: how much of itself the teacher keeps at each step.
    """

    needs = "tokens"

    def __init__(
        self,
        encoder,
        *,
        small_crops: Whole = 10,
        dropped: Share = 0.15,
        hidden: Count = 2048,
        dim: Count = 256,
        prototypes: Count = 1024,
        temperature: Positive = 0.1,
        teacher_temperature: Positive = 0.025,
        iterations: Whole = 3,
        spread: Amount = 1.0,
        momentum: ShareRamp = Ramp(0.996, 1.0),
    ):
        super().__init__(encoder)
        self.views = views.msn(small_crops)
        self.projector = mlp(encoder.dim, hidden, hidden, dim, act=nn.GELU)
        self.prototypes = Prototypes(dim, prototypes)
        self.teacher = EMA(encoder, self.projector)
        self.dropped, self.temperature, self.teacher_temperature = dropped, temperature, teacher_temperature
        self.iterations, self.spread, self.momentum = iterations, spread, momentum

    def loss(self, batch, t):
        large, small = batch["anchor"], batch["small"]
        patches = (large.shape[-1] // self.encoder.patch) ** 2
        shown, _ = split(batch.random("mask", (patches,)), self.dropped, least=0)
        seen = [self.encoder.features(large, keep=shown).vector, *encoded(self.encoder, small)]
        logits = self.prototypes(self.projector(torch.cat(seen))) / self.temperature  # [V*B, K]
        with torch.no_grad():
            scores = self.prototypes(self.teacher(batch["target"])).to(self.prototypes.weight)  # [B, K]
        target = sinkhorn((scores / self.teacher_temperature).log_softmax(1), 1.0, self.iterations)
        entropy = mean_entropy(logits)
        guess_loss = soft_cross_entropy(logits, target.repeat(1 + len(small), 1))
        return {"loss": guess_loss - self.spread * entropy, "guess_loss": guess_loss, "entropy": entropy}

    def after_step(self, t, keep):
        self.teacher.follow(self.momentum(t), self.encoder, self.projector)

    def product(self):
        return self.teacher.chain[0]
