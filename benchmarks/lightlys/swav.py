"""SwAV of lightly's head, prototypes, loss and memory bank, under our loop. arXiv:2006.09882"""

import torch
from lightly.loss import SwaVLoss
from lightly.models.modules import SwaVProjectionHead, SwaVPrototypes
from lightly.models.modules.memory_bank import MemoryBankModule
from torch.nn import functional as F

from tapetum import views
from tapetum.methods.method import Method


class LightlySwAV(Method):
    def __init__(
        self,
        encoder,
        *,
        small_crops: int = 6,
        hidden: int = 2048,
        dim: int = 128,
        prototypes: int = 3000,
        temperature: float = 0.1,
        code_temperature: float = 0.05,
        queue: int = 3840,
        queue_from: float = 15 / 400,
        frozen: float = 1 / 400,
    ):
        super().__init__(encoder)
        self.views = views.swav(small_crops)
        self.head = SwaVProjectionHead(encoder.dim, hidden, dim)
        self.prototypes = SwaVPrototypes(dim, prototypes)
        self.banks = torch.nn.ModuleList(MemoryBankModule((queue, dim)) for _ in range(2))
        self.criterion = SwaVLoss(temperature=temperature, sinkhorn_epsilon=code_temperature)
        self.rates = ((r"^prototypes\.", lambda t: float(t >= frozen)),)
        self.queue_from = queue_from

    def loss(self, batch, t):
        self.prototypes.normalize()
        crops = [*batch["large"], *batch["small"]]
        z = [F.normalize(self.head(self.encoder(x)).float(), dim=1) for x in crops]
        scores = [self.prototypes(x).float() for x in z]
        old = None
        if t >= self.queue_from:
            with torch.no_grad():
                old = [self.prototypes(bank(x, update=False)[1].T).float() for bank, x in zip(self.banks, z)]
        return {
            "loss": self.criterion(scores[:2], scores[2:], old).squeeze(),
            "keep": {"z": torch.stack(z[:2], 1)},
        }

    def after_step(self, t, keep):
        for bank, z in zip(self.banks, keep["z"].unbind(1)):
            bank(z, update=True)
