"""An image lies nearer to one of its class than to one of another. arXiv:1412.6622"""

import torch
from torch import Tensor, nn

from tapetum import views
from tapetum.base.distributed import gather, mean, rows
from tapetum.base.settings import Count
from tapetum.methods.method import Method
from tapetum.parts.losses import precise


class Triplet(Method):
    """Args:
    classes: number of classes, from the data.
    image_size: side of the images in pixels, from the run; up to 64 they are shifted rather than cropped.
    dim: width of the embedding in which distances are taken.
    """

    def __init__(self, encoder, *, classes: Count, image_size: int, dim: Count = 128):
        super().__init__(encoder)
        self.views = {"x": views.shifted() if image_size <= 64 else views.light()}
        self.embedding = nn.Linear(encoder.dim, dim)

    def loss(self, batch, t):
        z = self.embedding(self.encoder(batch["x"]))  # [B, D]
        return {"loss": triplets(z, batch["label"], batch.random("triplet", (2,)))}


@precise
def triplets(z: Tensor, label: Tensor, u: Tensor) -> Tensor:
    """Squared error of the softmax of each row's distances to one random row of its label and one of another.

    Rows z [B, D] are drawn by u [B, 2] in [0, 1) from all processes'. What has label -1, or lacks one of the
    two, makes no triplet.
    """
    others, labels = gather(z), gather(label)  # [W*B, D], [W*B]
    myself = rows(z)[:, None] == torch.arange(len(others), device=z.device)  # [B, W*B]
    alike = (label[:, None] == labels) & ~myself
    apart = (label[:, None] != labels) & (labels >= 0)
    known = alike.any(1) & apart.any(1) & (label >= 0)
    near, far = (
        torch.linalg.vector_norm(z - others[chosen(mask, draw)], dim=1)
        for mask, draw in zip((alike, apart), u.unbind(1))
    )
    d = torch.stack([near, far], 1).softmax(1)  # [B, 2], of which the first should be 0 and the second 1
    error = d[:, 0].square() + (d[:, 1] - 1).square()
    return (error * known).sum() / mean(known.to(z).sum()).clamp(min=1)


def chosen(mask: Tensor, u: Tensor) -> Tensor:
    """For each row of mask [B, N] one of its true columns [B], by u [B] in [0, 1)."""
    nth = (u * mask.sum(1)).long()
    return ((mask.cumsum(1) > nth[:, None]) & mask).float().argmax(1)
