"""Match a slow copy's sharpened, centred class guesses, from small crops to large ones. arXiv:2104.14294"""

import torch

from tapetum import views
from tapetum.base.settings import Count, Positive, Share, Whole
from tapetum.methods.method import Method
from tapetum.parts.crops import encoded
from tapetum.parts.losses import across, soft_cross_entropy
from tapetum.parts.prototypes import centred, guesser
from tapetum.parts.schedule import PositiveRamp, Ramp, ShareRamp
from tapetum.parts.state import EMA


class DINO(Method):
    """Args:
    small_crops: how many small crops each image gives besides the two large ones.
    hidden: width of the projector's hidden layers.
    dim: width of the bottleneck before the prototypes.
    prototypes: number of classes to guess among.
    temperature: the student's.
    teacher_temperature: the teacher's, lower and so sharper.
    momentum: how much of itself the teacher keeps at each step.
    centre_momentum: how much of itself the centre keeps at each step.
    frozen: share of training during which the prototypes stand still.
    batch_norm: batch norm in the projector, which ConvNets need to keep the guesses apart.
    """

    def __init__(
        self,
        encoder,
        *,
        small_crops: Whole = 6,
        hidden: Count = 2048,
        dim: Count = 256,
        prototypes: Count = 65536,
        temperature: Positive = 0.1,
        teacher_temperature: PositiveRamp = Ramp(0.04, 0.07, until=0.3, shape="linear"),
        momentum: ShareRamp = Ramp(0.996, 1.0),
        centre_momentum: Share = 0.9,
        frozen: Share = 0.01,
        batch_norm: bool = False,
    ):
        super().__init__(encoder)
        self.views = views.dino(small_crops)
        self.projector = guesser(encoder.dim, hidden, dim, prototypes, batch_norm)
        self.teacher = EMA(encoder, self.projector)
        self.register_buffer("centre", torch.zeros(prototypes))
        self.rates = ((r"projector\.1\.", lambda t: float(t >= frozen)),)
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.momentum, self.centre_momentum = momentum, centre_momentum

    def loss(self, batch, t):
        seen = torch.cat(encoded(self.encoder, batch["large"], batch["small"]))  # [V*B, D], the large first
        student = self.projector(seen) / self.temperature  # [V*B, K]
        teacher = self.teacher(torch.cat(batch["large"]))  # [2B, K]
        target = centred(teacher, self.centre, self.teacher_temperature(t))
        return {
            "loss": across(soft_cross_entropy, student.split(len(batch)), target.chunk(2)),
            "keep": {"centre": teacher.mean(0, dtype=self.centre.dtype)[None]},  # [1, K]
        }

    def after_step(self, t, keep):
        self.centre.lerp_(keep["centre"].mean(0), 1 - self.centre_momentum)
        self.teacher.follow(self.momentum(t), self.encoder, self.projector)

    def product(self):
        return self.teacher.chain[0]
