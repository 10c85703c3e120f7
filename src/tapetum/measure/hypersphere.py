"""How features lie on the unit sphere: views of one image close together, images spread evenly.

Wang and Isola 2020, arXiv:2005.10242.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_CELLS = 2**22  # distances held at once: 16 MB


@torch.no_grad()
def alignment(x: Tensor, power: float = 2.0) -> Tensor:
    """For each of N images the mean of distance ** power over all pairs of its views: [N].

    x [N, V, D] with V >= 2, brought to length 1. The paper's number is its mean; 0 means that a view
    changes nothing, 2 ** power is the most.
    """
    x = F.normalize(x.double(), dim=2)
    first, second = torch.triu_indices(x.shape[1], x.shape[1], 1, device=x.device)  # [P] pairs
    return torch.stack([(x[:, i] - x[:, j]).norm(dim=1) ** power for i, j in zip(first, second)]).mean(0)


@torch.no_grad()
def potential(x: Tensor, t: float = 2.0) -> Tensor:
    """For each row of x [N, D], brought to length 1, the mean of exp(-t * squared distance) to all others.

    float64 [N], in [exp(-4 t), 1]. Each pair is seen once; memory grows with N alone.
    """
    x = F.normalize(x.float(), dim=1)
    total = x.new_zeros(len(x), dtype=torch.float64)
    side = max(1, int(_CELLS**0.5))
    for i in range(0, len(x), side):
        for j in range(i, len(x), side):
            near = (2 * t * (x[i : i + side] @ x[j : j + side].T - 1)).exp_()  # exp(-t |a - b|^2)
            if i == j:
                near.fill_diagonal_(0)
            else:
                total[j : j + side] += near.sum(0)
            total[i : i + side] += near.sum(1)
    return total / (len(x) - 1)


def uniformity(x: Tensor, t: float = 2.0) -> float:
    """The logarithm of the mean of exp(-t * squared distance) over all pairs of rows of x [N, D], N >= 2.

    In [-4 t, 0]; 0 means that all features are one point. Random directions come to about -2 t.
    """
    return float(potential(x, t).mean().log())
