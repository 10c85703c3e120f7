"""What the spectrum of features says about them, without labels: their rank, and how it falls off."""

import torch
from torch import Tensor

_ROWS = 2**13  # in double precision at once


@torch.no_grad()
def singular_values(x: Tensor) -> Tensor:
    """Singular values of x [N, D], float64 [min(N, D)], largest first (from the smaller Gram matrix)."""
    if x.shape[0] < x.shape[1]:
        x = x.double()
        gram = x @ x.T
    else:
        parts = (part.double() for part in x.split(_ROWS))
        gram = sum((part.T @ part for part in parts), x.new_zeros(x.shape[1], x.shape[1], dtype=torch.double))
    return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)


def variances(x: Tensor) -> Tensor:
    """Eigenvalues of the covariance of x [N, D], float64 [min(N, D)], largest first."""
    mean = x.mean(0, dtype=torch.float64)
    return singular_values(x - mean.to(x.dtype)).square() / len(x)


def effective_rank(x: Tensor, eps: float = 1e-7) -> float:
    """RankMe of x [N, D]: the exponential of the entropy of its singular values, in [1, min(N, D)].

    1 means that all features lie on a line; low numbers mean collapse. Nothing is centred, as in the paper
    (Garrido et al. 2023, arXiv:2210.02885). Of use from a few times D rows on.
    """
    return spread(singular_values(x), eps)


def spread(values: Tensor, eps: float = 1e-7) -> float:
    """Over how many of the `values` [r], none negative, their sum is spread: the exponential of the entropy
    of their shares, in [1, r]."""
    p = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny) + eps
    return float((-p * p.log()).sum().exp())


def stable_rank(values: Tensor) -> float:
    """The sum of squared singular values [r] over the largest square, in [1, r]; 0 where all are 0.

    It takes `singular_values(x)`: not centred, a mean far from the origin brings it near to 1.
    """
    return nesum(values.square())


def nesum(values: Tensor) -> float:
    """The sum of the eigenvalues [r] of a covariance over the largest (He and Ozay 2022), in [1, r].

    It takes `variances(x)`. r means white features, 1 that one direction holds all variance; 0 where there is
    no variance at all.
    """
    return float(values.sum() / values.max()) if values.max() > 0 else 0.0


def participation_ratio(values: Tensor) -> float:
    """The squared sum of the eigenvalues [r] of a covariance over the sum of their squares, in [1, r].

    It takes `variances(x)`: how many directions share the variance (Gao et al. 2017). 0 where there is none.
    """
    return float(values.sum().square() / values.square().sum()) if values.max() > 0 else 0.0


def power_law(values: Tensor, first: int = 11, last: int = 100, least: int = 10) -> float:
    """alpha-ReQ: the exponent a with which the eigenvalues [r] of a covariance fall like rank ** -a.

    It takes `variances(x)`. A straight line through log eigenvalue and log rank of the ranks from `first` to
    `last`, weighted by 1 / rank, the fit of Stringer et al. 2019 that Agrawal et al. 2022 took
    over. Good features are near 1; collapsed ones fall faster. Not a number where fewer than
    `least` eigenvalues in that range are above rounding.
    """
    last = min(last, int((values > 1e-12 * values.max()).sum()))
    if last - first + 1 < least:
        return float("nan")
    rank = torch.arange(first, last + 1, dtype=torch.float64, device=values.device)
    x, y, weight = rank.log(), values[rank.long() - 1].log(), 1 / rank
    x, y = x - (weight * x).sum() / weight.sum(), y - (weight * y).sum() / weight.sum()
    return -float((weight * x * y).sum() / (weight * x * x).sum())


@torch.no_grad()
def lidar(x: Tensor, delta: float = 1e-4, eps: float = 1e-7) -> float:
    """LiDAR of x [N, V, D], V views each of N images: the rank that linear discriminant analysis has to tell
    images apart, in [1, min(N, D)] (Thilak et al. 2024, arXiv:2312.04000).

    The spread of the eigenvalues of W^-1/2 B W^-1/2, B the covariance of the images' means and W that of the
    views about their image's mean, plus `delta` on its diagonal. It takes tens of views and more images than
    dimensions to come near to its limit; numbers compare only at equal N and V.
    """
    x = x.double()
    means = x.mean(1)  # [N, D]
    within = (x - means[:, None]).flatten(0, 1)  # [N * V, D]
    values, basis = torch.linalg.eigh(within.T @ within / len(within))
    white = (means - means.mean(0)) @ basis / (values.clamp(min=0) + delta).sqrt()
    return spread(singular_values(white).square(), eps)
