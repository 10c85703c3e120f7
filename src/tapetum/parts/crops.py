"""Crops of several sizes, all of one size encoded at once."""

import torch
from torch import Tensor, nn


def encoded(encoder: nn.Module, *sizes: list[Tensor]) -> list[Tensor]:
    """The features [V * B, D] of each size's V crops [B, C, S, S], one crop after the other; none of a size
    that has no crops. Batch norm takes in all crops of a size, as in the authors' codes of SwAV and DINO."""
    return [encoder(torch.cat(crops)) for crops in sizes if crops]
