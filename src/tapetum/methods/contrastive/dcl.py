"""SimCLR with the pair taken out of its denominator, so that easy pairs still teach. arXiv:2110.06848"""

import torch

from tapetum import views
from tapetum.base.settings import Count, Positive
from tapetum.methods.method import Method
from tapetum.parts.heads import mlp
from tapetum.parts.negatives import decoupled


class DCL(Method):
    """Args:
    hidden: width of the projector's hidden layer.
    dim: width of what the projector gives.
    temperature: divides the cosine similarities.
    """

    def __init__(self, encoder, *, hidden: Count = 2048, dim: Count = 128, temperature: Positive = 0.1):
        super().__init__(encoder)
        self.views = {"views": 2 * [views.simclr()]}
        self.projector = mlp(encoder.dim, hidden, dim, last_norm=True)
        self.temperature = temperature

    def loss(self, batch, t):
        a, b = self.projector(self.encoder(torch.cat(batch["views"]))).chunk(2)  # [B, D]
        return {"loss": decoupled(a, b, self.temperature, self.weight(a, b))}

    def weight(self, a, b):
        """How much each pair attracts [B], or None where all do alike."""
