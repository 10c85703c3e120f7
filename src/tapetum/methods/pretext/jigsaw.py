"""Nine tiles of the image are shuffled: say into which order. arXiv:1603.09246"""

from typing import Annotated

import torch
from torch import Tensor, nn

from tapetum import views
from tapetum.base.settings import Count, Share
from tapetum.methods.method import Method
from tapetum.parts.classify import classified
from tapetum.parts.heads import mlp
from tapetum.parts.tiles import cut, evened, far_apart, whole_patches


class Jigsaw(Method):
    """Args:
    permutations: how many of the 362,880 orders are told apart, chosen to lie far from each other.
    tile: side of a tile as a share of its cell's; it stands anywhere in it, so that no border goes on.
    dim: width of what is said of each tile by itself.
    hidden: width of the layer that sees all nine (with batch norm where the paper has dropout).
    """

    orders: Tensor

    def __init__(
        self,
        encoder,
        *,
        permutations: Annotated[int, 2, 10_000] = 1000,
        tile: Share = 64 / 75,
        dim: Count = 512,
        hidden: Count = 4096,
    ):
        super().__init__(encoder)
        self.views = {"x": views.Crop(scale=(0.5, 0.8), ratio=(1.0, 1.0)) + views.Gray(0.3)}
        self.register_buffer("orders", far_apart(permutations), persistent=False)  # [P, 9]
        self.each = nn.Sequential(nn.Linear(encoder.dim, dim), nn.ReLU())
        self.classifier = mlp(9 * dim, hidden, permutations)
        self.tile = tile

    def loss(self, batch, t):
        tiles = self.tiles(batch["x"], batch.random("place", (9, 2)))  # [B, 9, C, s, s]
        label = (batch.random("order") * len(self.orders)).long()
        tiles = tiles[torch.arange(len(tiles), device=label.device)[:, None], self.orders[label]]
        said = self.each(self.encoder(tiles.flatten(0, 1)))  # [9B, D]
        return classified(self.classifier(said.reshape(len(tiles), -1)), label)

    def tiles(self, x, place):
        """A tile of each of nine cells of x, somewhere in it by place [B, 9, 2] in [0, 1)."""
        cell = x.shape[-1] // 3
        side = whole_patches(round(self.tile * cell), self.encoder.patch, cell)
        at = torch.arange(9, device=x.device)
        free = (place * (cell - side + 1)).long()
        tiles = cut(x, at % 3 * cell + free[..., 0], at // 3 * cell + free[..., 1], side)
        return evened(tiles, self.encoder.mean, self.encoder.std)
