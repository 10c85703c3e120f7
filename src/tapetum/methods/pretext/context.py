"""Of two neighbouring patches, say on which side of the first the second lies. arXiv:1505.05192"""

import torch
from torch import Tensor

from tapetum import views
from tapetum.base.settings import Amount, Count
from tapetum.methods.method import Method
from tapetum.parts.classify import classified
from tapetum.parts.heads import mlp
from tapetum.parts.tiles import cut, one_channel, whole_patches
from tapetum.views.operation import whole


class Context(Method):
    """The paper also shows some patches at a low resolution, which is left out here.

    Args:
    hidden: width of the two layers that see both patches.
    gap: between the patches, in shares of their side.
    jitter: by how much each patch is moved at most, in shares of its side.
    """

    around: Tensor

    def __init__(self, encoder, *, hidden: Count = 4096, gap: Amount = 0.5, jitter: Amount = 7 / 96):
        super().__init__(encoder)
        self.views = {"x": views.Crop(scale=(0.5, 1.0), ratio=(1.0, 1.0)) + views.Flip()}
        around = [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1) if (x, y) != (0, 0)]
        self.register_buffer("around", torch.tensor(around), persistent=False)  # [8, 2]
        self.classifier = mlp(2 * encoder.dim, hidden, hidden, 8)
        self.gap, self.jitter = gap, jitter

    def loss(self, batch, t):
        label = (8 * batch.random("side")).long()
        pair = self.pair(batch["x"], label, batch.random("place", (3, 2)))  # [B, 2, C, s, s]
        colour = batch.random("colour", (2, 3)).flatten(0, 1)
        said = self.encoder(one_channel(pair.flatten(0, 1), self.encoder.mean, colour))  # [2B, D]
        return classified(self.classifier(said.reshape(len(pair), -1)), label)

    def pair(self, x, label, place):
        """A patch of x, anywhere, and its neighbour on the side `label`; place [B, 3, 2] says where."""
        room, towards = x.shape[-1], self.around[label]  # [B, 2]
        side = whole_patches(
            room / (2 + self.gap + 2 * self.jitter), self.encoder.patch, room / (2 + self.gap)
        )
        step, loose = round((1 + self.gap) * side), round(self.jitter * side)
        loose = min(loose, (room - side - step) // 2)
        free = room - side - towards.abs() * step - 2 * loose
        first = loose + (place[:, 0] * (free + 1)).long() + (towards < 0) * step  # [B, 2]
        at = torch.stack([first, first + towards * step], 1) + whole(place[:, 1:], -loose, loose)  # [B, 2, 2]
        return cut(x, at[..., 0], at[..., 1], side)
