"""All views of a class attract, every other image in the batch repels. arXiv:2004.11362"""

import torch

from tapetum.base.settings import Count, Positive
from tapetum.methods.contrastive.simclr import SimCLR


class SupCon(SimCLR):
    """Args:
    classes: number of classes, from the data; images without a label are each a class of their own.
    hidden: width of the projector's hidden layer.
    dim: width of what the projector gives.
    temperature: divides the cosine similarities.
    """

    def __init__(
        self,
        encoder,
        *,
        classes: Count,
        hidden: Count = 2048,
        dim: Count = 128,
        temperature: Positive = 0.1,
    ):
        super().__init__(encoder, hidden=hidden, dim=dim, temperature=temperature)

    def alike(self, batch):
        return torch.where(batch["label"] < 0, -1 - batch["index"], batch["label"])
