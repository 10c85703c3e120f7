"""Say by how many quarters the image was turned. arXiv:1803.07728"""

import torch
from torch import nn

from tapetum import views
from tapetum.methods.method import Method
from tapetum.parts.classify import classified


class Rotation(Method):
    """All four turns of each image stand in the batch. There are no settings."""

    def __init__(self, encoder):
        super().__init__(encoder)
        self.views = {"x": views.light()}
        self.classifier = nn.Linear(encoder.dim, 4)

    def loss(self, batch, t):
        x = torch.cat([batch["x"].rot90(turns, (2, 3)) for turns in range(4)])  # [4B, C, S, S]
        turns = torch.arange(4, device=x.device).repeat_interleave(len(batch))
        return classified(self.classifier(self.encoder(x)), turns)
