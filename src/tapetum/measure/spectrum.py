"""What the singular values of features say about them, without labels."""

import torch
from torch import Tensor


@torch.no_grad()
def singular_values(x: Tensor) -> Tensor:
    """Singular values of x [N, D], float64 [min(N, D)], largest first (from the smaller Gram matrix)."""
    x = x.double()
    gram = x @ x.T if x.shape[0] < x.shape[1] else x.T @ x
    return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)


def effective_rank(x: Tensor, eps: float = 1e-7) -> float:
    """RankMe of x [N, D]: the exponential of the entropy of its singular values, in [1, min(N, D)].

    1 means that all features lie on a line; low numbers mean collapse. Nothing is centred, as in the paper
    (Garrido et al. 2023, arXiv:2210.02885). Of use from a few times D rows on.
    """
    sigma = singular_values(x)
    p = sigma / sigma.sum().clamp(min=torch.finfo(sigma.dtype).tiny) + eps
    return float((-p * p.log()).sum().exp())
