"""Features that keep away from their nearest neighbours, and so spread evenly."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base.distributed import gather, rows
from tapetum.parts.losses import precise


@precise
def koleo(x: Tensor) -> Tensor:
    """Minus the mean log distance of each row of x [B, D], at length 1, to its nearest other row, over all
    processes: Kozachenko and Leonenko's estimate of the entropy, up to constants (arXiv:1806.03198)."""
    x = F.normalize(x, dim=1)
    others = gather(x)  # [W*B, D]
    with torch.no_grad():
        likeness = x @ others.T  # [B, W*B]
        likeness.scatter_(1, rows(x)[:, None], -2)  # itself
    return -((x - others[likeness.argmax(1)]).norm(dim=1) + 1e-8).log().mean()
