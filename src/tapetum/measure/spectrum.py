"""What the spectrum of features says about them, without labels: their rank, and how it falls off.

The spectrum is that of the features as they are, the squares of `singular_values(x)`, or about their mean,
`variances(x)`. Functions of its values give a number that no scale changes.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

_ROWS = 2**13  # in double precision at once


@torch.no_grad()
def singular_values(x: Tensor) -> Tensor:
    """Singular values of x [N, D], float64 [min(N, D)], largest first (from the smaller Gram matrix)."""
    gram = _outer(x) if x.shape[0] < x.shape[1] else _inner(x)
    return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)


def variances(x: Tensor) -> Tensor:
    """Eigenvalues of the covariance of x [N, D], float64 [min(N, D)], largest first."""
    return singular_values(_centred(x)).square() / len(x)


def effective_rank(x: Tensor, eps: float = 1e-7) -> float:
    """RankMe of x [N, D]: the exponential of the entropy of its singular values, in [1, min(N, D)].

    1 means that all features lie on a line; low numbers mean collapse. Nothing is centred, as in the paper
    (Garrido et al. 2023, arXiv:2210.02885). Of use from a few times D rows on.
    """
    return float(spread(singular_values(x), eps))


def rank_me(values: Tensor, eps: float = 1e-7) -> Tensor:
    """RankMe from the values [r] of a spectrum, the squares of singular values; see `effective_rank`."""
    there = values > 1e-20 * values.max()  # the root of 0 has no slope
    return spread(torch.where(there, torch.where(there, values, 1.0).sqrt(), 0.0), eps)


def spread(values: Tensor, eps: float = 1e-7) -> Tensor:
    """Over how many of the `values` [r], none negative, their sum is spread: the exponential of the entropy
    of their shares, in [1, r]."""
    p = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny) + eps
    return (-p * p.log()).sum().exp()


def nesum(values: Tensor) -> Tensor:
    """The sum of the values [r] of a spectrum over the largest, in [1, r]; 0 where all are 0.

    About the mean it is NESum (He and Ozay 2022): r means white features, 1 that one direction
    holds all variance. Of features as they are it is the stable
    rank, which a mean far from the origin brings near to 1.
    """
    return values.sum() / values.max().clamp(min=torch.finfo(values.dtype).tiny)


def participation_ratio(values: Tensor) -> Tensor:
    """The squared sum of the values [r] of a spectrum over the sum of their squares, in [1, r]; 0 of zeros.

    About the mean it says how many directions share the variance (Gao et al. 2017).
    """
    shares = values / values.max().clamp(min=torch.finfo(values.dtype).tiny)
    return shares.sum().square() / shares.square().sum().clamp(min=torch.finfo(values.dtype).tiny)


def power_law(values: Tensor, first: int = 11, last: int = 100, least: int = 10) -> Tensor:
    """alpha-ReQ: the exponent a with which the values [r] of a spectrum, largest first, fall like rank ** -a.

    A straight line through log value and log rank of the ranks from `first` to `last`, weighted by 1 / rank:
    the fit of Stringer et al. 2019, taken over by Agrawal et al. 2022 for the spectrum about the mean. Good
    features are near 1; collapsed ones fall faster. Not a number where fewer than `least` values in that
    range are above rounding.
    """
    last = min(last, int((values > 1e-12 * values.max()).sum()))
    if last - first + 1 < least:
        return values.new_tensor(float("nan"))
    rank = torch.arange(first, last + 1, dtype=values.dtype, device=values.device)
    x, y, weight = rank.log(), values[rank.long() - 1].log(), 1 / rank
    x, y = x - (weight * x).sum() / weight.sum(), y - (weight * y).sum() / weight.sum()
    return -(weight * x * y).sum() / (weight * x * x).sum()


def measured(
    x: Tensor, measures: Sequence[Callable[[Tensor], Tensor]], centred: bool = False
) -> tuple[Tensor, Tensor]:
    """What each of K `measures` says of the spectrum of x [N, D], and its standard errors: float64 [K], [K].

    The errors are those of the infinitesimal jackknife (Jaeckel 1972): a row's weight moves an eigenvalue by
    the squared part of the row along its direction. They cost one more product, where a bootstrap would cost
    hundreds of decompositions, and repeated rows would lower the rank.
    """
    x = _centred(x) if centred else x
    with torch.no_grad():
        few = x.shape[0] < x.shape[1]
        values, basis = torch.linalg.eigh(_outer(x) if few else _inner(x))
        values, basis = values.flip(0).clamp(min=0), basis.flip(1)
    values.requires_grad_()
    found = [measure(values) for measure in measures]
    slopes = torch.stack(
        [torch.autograd.grad(f, values)[0] if f.requires_grad else 0 * values for f in found], 1
    )
    with torch.no_grad():
        along = [values * basis.square()] if few else ((part @ basis).square() for part in _doubles(x))
        moved = torch.cat([part @ slopes for part in along])  # [N, K]: by the weight of each row
    return torch.stack([f.detach() for f in found]), (moved - moved.mean(0)).square().sum(0).sqrt()


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
    within = _inner((x - means[:, None]).flatten(0, 1)) / (x.shape[0] * x.shape[1])
    within.diagonal().add_(delta)
    root = torch.linalg.cholesky(within)
    white = torch.linalg.solve_triangular(root, (means - means.mean(0)).T, upper=False)  # [D, N]
    return float(spread(singular_values(white).square(), eps))


def _doubles(x: Tensor) -> Iterator[Tensor]:
    return (part.double() for part in x.split(_ROWS))


def _inner(x: Tensor) -> Tensor:
    """x.T @ x, float64 [D, D]."""
    total = torch.zeros(x.shape[1], x.shape[1], dtype=torch.double, device=x.device)
    for part in _doubles(x):
        total += part.T @ part
    return total


def _outer(x: Tensor) -> Tensor:
    """x @ x.T, float64 [N, N]."""
    x = x.double()
    return x @ x.T


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(0, dtype=torch.float64).to(x.dtype)
