"""Losses that keep features apart by statistics of the batch, which are those of all processes together."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base.distributed import gather, mean, total, world
from tapetum.parts.losses import across, cosine_distance, precise
from tapetum.parts.masks import take

Weights = tuple[float, float, float]  # of VICReg's invariance, variance and covariance


def standardised(z: Tensor, eps: float = 1e-5) -> Tensor:
    """z [B, D] with mean 0 and variance 1 in each column."""
    z = z - mean(z.mean(0))
    return z * (mean(z.square().mean(0)) + eps).rsqrt()


def covariance(z: Tensor) -> Tensor:
    """The unbiased covariance [..., D, D] of z [B, ..., D] over B."""
    z = z - mean(z.mean(0))
    return total(torch.einsum("n...i,n...j->...ij", z, z)) / (len(z) * world() - 1)


def off_diagonal(c: Tensor) -> Tensor:
    """c [..., D, D] with zeros on its diagonal."""
    return c - c.diagonal(dim1=-2, dim2=-1).diag_embed()


@precise
def barlow_twins(a: Tensor, b: Tensor, redundancy: float) -> Tensor:
    """The correlation of columns of a with columns of b [B, D] becomes the identity (arXiv:2103.03230).

    `redundancy` weighs what lies off the diagonal.
    """
    c = mean(standardised(a).T @ standardised(b) / len(a))  # [D, D]
    return (c.diagonal() - 1).square().sum() + redundancy * off_diagonal(c).square().sum()


@precise
def vicreg(a: Tensor, b: Tensor, weights: Weights) -> Tensor:
    """a and b [B, ..., D] attract, each column keeps a deviation of 1, and columns do not covary.

    As in Algorithm 1 of arXiv:2105.04906: the squared difference is a mean over D, the others are sums over
    a and b.
    """
    attract, spread, apart = weights
    loss = attract * F.mse_loss(a, b)
    for z in (a, b):
        c = covariance(z)
        deviation = (c.diagonal(dim1=-2, dim2=-1) + 1e-4).sqrt()
        loss = loss + spread * F.relu(1 - deviation).mean()
        loss = loss + apart * off_diagonal(c).square().sum((-2, -1)).mean() / z.shape[-1]
    return loss


def closest(distance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """distance [B, N, M] -> the `count` rows [B, K] nearest to any column, and these columns [B, K]."""
    least, column = distance.min(2)
    row = least.argsort(dim=1, stable=True)[:, :count]
    return row, column.gather(1, row)


@precise
def local_vicreg(a: Tensor, b: Tensor, distance: Tensor, count: int, weights: Weights) -> Tensor:
    """VICReg between vectors of places a [B, N, D] and b [B, M, D], matched by distance [B, N, M].

    Of each side the `count` places with the nearest match count, nearest first (arXiv:2210.01571).
    """
    both = []
    for x, y, apart in ((a, b, distance), (b, a, distance.mT)):
        row, column = closest(apart, count)
        both.append(vicreg(take(x, row), take(y, column), weights))
    return torch.stack(both).mean()


@torch.no_grad()
@precise
def second_moment(z: Tensor) -> Tensor:
    """The mean outer product [D, D] of the rows of z [B, D], each of length 1."""
    z = F.normalize(z, dim=1)
    return mean(z.T @ z / len(z))


@precise
def along(z: Tensor, moment: Tensor) -> Tensor:
    """The mean of u' M u over the rows u of z [B, D], each of length 1: how far they lie along M [D, D]."""
    z = F.normalize(z, dim=1)
    return ((z @ moment) * z).sum(1).mean()


def whitened(z: Tensor, eps: float) -> Tensor:
    """z [..., K, D] with mean 0 and covariance 1 over K, by the inverse of Cholesky's factor, in float64.

    `eps` of the mean variance is added to the diagonal: without it K <= D has no inverse.
    """
    wide = z.double() - z.double().mean(-2, keepdim=True)
    c = wide.mT @ wide / (z.shape[-2] - 1)
    size = c.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1e-12)
    c = c + (eps * size)[..., None, None] * torch.eye(z.shape[-1], device=z.device)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(c), wide.mT, upper=False)
    return white.mT.to(z)


@precise
def w_mse(z: Tensor, scores: Tensor, size: int, eps: float) -> Tensor:
    """The squared distance of images' views z [B, V, D], whitened in random parts (arXiv:2007.06346).

    Each column of random scores [B, R] parts the images of all processes into parts of about `size`, the same
    for all views; each view of a part is whitened by itself. What is left over is left out.
    """
    z, order = gather(z), gather(scores).argsort(dim=0, stable=True).T  # [N, V, D], [R, N]
    parts = max(1, len(z) // size)
    order = order[:, : len(z) - len(z) % parts]
    views = z.transpose(0, 1)[:, order].unflatten(2, (parts, -1))  # [V, R, parts, K, D]
    white = list(whitened(views, eps))
    return across(cosine_distance, white, white)
