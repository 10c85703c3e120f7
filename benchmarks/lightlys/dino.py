"""DINO of lightly's head, loss and momentum update, under our loop. arXiv:2104.14294"""

import copy

import torch
from lightly.loss import DINOLoss
from lightly.models.modules import DINOProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum

from tapetum import views
from tapetum.methods.method import Method
from tapetum.parts.schedule import PositiveRamp, Ramp, ShareRamp


class LightlyDINO(Method):
    def __init__(
        self,
        encoder,
        *,
        small_crops: int = 6,
        hidden: int = 2048,
        dim: int = 256,
        prototypes: int = 65536,
        temperature: float = 0.1,
        teacher_temperature: PositiveRamp = Ramp(0.04, 0.07, until=0.3, shape="linear"),
        momentum: ShareRamp = Ramp(0.996, 1.0),
        centre_momentum: float = 0.9,
        frozen: float = 0.01,
        batch_norm: bool = False,
    ):
        super().__init__(encoder)
        self.views = views.dino(small_crops)
        self.projection = DINOProjectionHead(encoder.dim, hidden, dim, prototypes, batch_norm)
        self.slow = torch.nn.ModuleList(
            [copy.deepcopy(encoder), DINOProjectionHead(encoder.dim, hidden, dim, prototypes, batch_norm)]
        )
        self.slow[1].load_state_dict(self.projection.state_dict())  # weight norm cannot be copied
        deactivate_requires_grad(self.slow)
        self.criterion = DINOLoss(
            output_dim=prototypes, student_temp=temperature, center_momentum=centre_momentum
        )
        self.rates = ((r"last_layer", lambda t: float(t >= frozen)),)
        self.teacher_temperature, self.momentum = teacher_temperature, momentum

    def loss(self, batch, t):
        student = [self.projection(self.encoder(x)).float() for x in [*batch["large"], *batch["small"]]]
        with torch.no_grad():
            teacher = [self.slow[1](self.slow[0](x)).float() for x in batch["large"]]
        return {"loss": self.criterion(teacher, student, teacher_temp=self.teacher_temperature(t))}

    def after_step(self, t, keep):
        update_momentum(self.encoder, self.slow[0], self.momentum(t))
        update_momentum(self.projection, self.slow[1], self.momentum(t))

    def product(self):
        return self.slow[0]
