"""Guess from one crop which prototypes another goes to when all get equally many. arXiv:2006.09882"""

import torch
from torch import nn

from tapetum import views
from tapetum.base.distributed import share
from tapetum.base.settings import Count, Positive, Share, Whole
from tapetum.methods.method import Method
from tapetum.parts.assign import sinkhorn
from tapetum.parts.crops import encoded
from tapetum.parts.heads import Prototypes, mlp
from tapetum.parts.losses import across, soft_cross_entropy
from tapetum.parts.negatives import unit
from tapetum.parts.state import Queue


class SwAV(Method):
    """The prototypes' length of 1 is in the gradient; the authors set it before each step, outside it.

    Args:
    small_crops: how many small crops each image gives besides the two large ones.
    hidden: width of the projector's hidden layer.
    dim: width of what the projector gives.
    prototypes: number of groups.
    temperature: divides the scores of the guesses.
    code_temperature: divides the scores that are balanced (epsilon in the paper).
    queue: vectors of earlier batches that are balanced with each large crop's, as in the paper for batches of
        256; 0 for none, as it has for 4,096.
    queue_from: share of training from which they are.
    frozen: share of training during which the prototypes stand still.
    """

    def __init__(
        self,
        encoder,
        *,
        small_crops: Whole = 6,
        hidden: Count = 2048,
        dim: Count = 128,
        prototypes: Count = 3000,
        temperature: Positive = 0.1,
        code_temperature: Positive = 0.05,
        queue: Whole = 3840,
        queue_from: Share = 15 / 400,
        frozen: Share = 1 / 400,
    ):
        super().__init__(encoder)
        self.views = views.swav(small_crops)
        self.projector = mlp(encoder.dim, hidden, dim)
        self.prototypes = Prototypes(dim, prototypes)
        self.queues = nn.ModuleList(Queue(queue, dim) for _ in self.views["large"] if queue)
        self.rates = ((r"^prototypes\.", lambda t: float(t >= frozen)),)
        self.temperature, self.code_temperature = temperature, code_temperature
        self.queue_from = queue_from

    def loss(self, batch, t):
        seen = encoded(self.encoder, batch["large"], batch["small"])
        z = unit(self.projector(torch.cat(seen)))  # [V*B, D], the large crops first
        z = z.unflatten(0, (-1, len(batch)))  # [V, B, D]
        scores = self.prototypes(z)  # [V, B, K]
        codes = [
            sinkhorn(torch.cat([crop, *old]), self.code_temperature)[: len(batch)]
            for crop, old in zip(scores[:2].detach(), self.earlier(t))
        ]
        return {
            "loss": across(soft_cross_entropy, scores / self.temperature, codes),
            "keep": {"z": z[:2].transpose(0, 1)},  # [B, 2, D]
        }

    @torch.no_grad()
    def earlier(self, t):
        """For each large crop, scores [Q, K] of this process's share of its queue, once full and used."""
        if t < self.queue_from or any(queue.next < len(queue.items) for queue in self.queues):
            return [], []
        return [[self.prototypes(share(queue.items))] for queue in self.queues] or ([], [])

    def after_step(self, t, keep):
        for queue, z in zip(self.queues, keep["z"].unbind(1)):
            queue.push(z)
