"""Two views of an image attract; every other image in the batch repels. arXiv:2002.05709"""

import torch

from tapetum import views
from tapetum.base.settings import Count, Positive
from tapetum.methods.method import Method
from tapetum.parts.heads import mlp
from tapetum.parts.losses import nt_xent


class SimCLR(Method):
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
        z = self.projector(self.encoder(torch.cat(batch["views"])))  # [2B, D]
        return {"loss": nt_xent(z, self.alike(batch).repeat(2), self.temperature)}

    def alike(self, batch):
        """Numbers [B], equal for images that attract each other."""
        return batch["index"]
