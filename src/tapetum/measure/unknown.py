"""Scores of how unlike the training data a row is; all of them higher for what is more unknown.

Scores of logits need a classifier; the others look at the features themselves. Training rows are x [N, D]
with `labels` [N] in range(classes), queries [M, D]; every score is float64 [M].
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_CELLS = 2**24  # similarities held at once: 64 MB
_ROWS = 2**13  # in double precision at once
_RIDGE = 1e-6  # of the mean variance: keeps a covariance invertible


def max_softmax(logits: Tensor) -> Tensor:
    """1 - the largest probability, of logits [M, C] (Hendrycks and Gimpel 2017, arXiv:1610.02136)."""
    largest, at = logits.double().max(1, keepdim=True)
    others = logits.double().scatter(1, at, -torch.inf).logsumexp(1)
    return (others - largest[:, 0]).sigmoid()  # keeps the order of rows whose 1 - p rounds to 0


def max_logit(logits: Tensor) -> Tensor:
    """- the largest of logits [M, C] (Hendrycks et al. 2022, arXiv:1911.11132)."""
    return -logits.double().max(1).values


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """- T * log sum exp(logits / T), of logits [M, C] (Liu et al. 2020, arXiv:2010.03759)."""
    return -temperature * (logits.double() / temperature).logsumexp(1)


def entropy(logits: Tensor) -> Tensor:
    """The entropy of the probabilities, in nats, of logits [M, C]."""
    log_p = logits.double().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


@torch.no_grad()
def knn_distance(x: Tensor, queries: Tensor, k: int = 50) -> Tensor:
    """The distance to the k-th nearest training row, all of length 1 (Sun et al. 2022, arXiv:2204.06507).

    With fewer than k training rows it is the distance to the farthest.
    """
    bank, k = F.normalize(x.float(), dim=1), min(k, len(x))
    portion = max(1, _CELLS // len(bank))
    parts = (F.normalize(part.float(), dim=1) @ bank.T for part in queries.split(portion))
    near = torch.cat([part.topk(k, dim=1).values[:, -1] for part in parts])
    return (2 - 2 * near.double()).clamp(min=0).sqrt()


def class_mean_cosine(x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> Tensor:
    """1 - the cosine to the nearest mean of a class, in [0, 2]."""
    means = F.normalize(_means(x, labels, classes), dim=1)
    return torch.cat([1 - (F.normalize(q, dim=1) @ means.T).max(1).values for q in _doubles(queries)])


def mahalanobis(x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> Tensor:
    """The least squared distance to the mean of a class, in the metric of the covariance that the classes
    share (Lee et al. 2018, arXiv:1807.03888)."""
    return _class_distances(x, labels, queries, classes).min(1).values


def relative_mahalanobis(x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> Tensor:
    """The same, less the squared distance to the mean of all rows in the metric of their covariance: what all
    rows share no longer counts (Ren et al. 2021, arXiv:2106.09022)."""
    everything = _class_distances(x, torch.zeros_like(labels), queries, 1)
    return mahalanobis(x, labels, queries, classes) - everything[:, 0]


class Residual(NamedTuple):
    """A point and the directions in which training rows hardly leave it.

    origin: [D].
    basis: [D, R], orthonormal.
    """

    origin: Tensor
    basis: Tensor

    def __call__(self, queries: Tensor) -> Tensor:
        """How far queries [M, D] leave the origin in those directions: float64 [M]."""
        return torch.cat([((q - self.origin) @ self.basis).norm(dim=1) for q in _doubles(queries)])


def residual(x: Tensor, about: Tensor, principal: int | None = None) -> Residual:
    """All directions but the `principal` ones in which the rows of x [N, D] leave the point `about` [D] most.

    By default the paper's number of principal directions: 1000 for D >= 2048, 512 for D >= 768, else D / 2.
    """
    dim = x.shape[1]
    if principal is None:
        principal = 1000 if dim >= 2048 else 512 if dim >= 768 else dim // 2
    _, basis = torch.linalg.eigh(_scatter(x, about.double()[None]))  # smallest first
    return Residual(about.double(), basis[:, : max(1, dim - principal)])


def origin(weight: Tensor, bias: Tensor) -> Tensor:
    """The point [D] nearest to 0 at which the logits weight [C, D] @ f + bias [C] vanish, or nearly so."""
    return -torch.linalg.pinv(weight.double()) @ bias.double()


def vim(x: Tensor, queries: Tensor, weight: Tensor, bias: Tensor, principal: int | None = None) -> Tensor:
    """Virtual-logit matching: the scaled residual less the log-sum-exp of the logits (Wang et al. 2022,
    arXiv:2203.10807).

    The logits of features f are weight [C, D] @ f + bias [C]. The residual is measured about the point where
    they vanish, and scaled so that on training rows it is as large as the largest logit.
    """
    weight, bias = weight.double(), bias.double()
    rest = residual(x, origin(weight, bias), principal)
    largest = torch.cat([F.linear(part, weight, bias).max(1).values for part in _doubles(x)])
    scale = largest.mean() / rest(x).mean().clamp(min=torch.finfo(torch.double).tiny)
    logits = torch.cat([F.linear(q, weight, bias) for q in _doubles(queries)])
    return scale * rest(queries) + energy(logits)


def _doubles(x: Tensor):
    return (part.double() for part in x.split(_ROWS))


def _means(x: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The mean of each class, float64 [C, D]; not a number for a class without rows."""
    total = torch.zeros(classes, x.shape[1], dtype=torch.double, device=x.device)
    for part, y in zip(_doubles(x), labels.split(_ROWS)):
        total.index_add_(0, y, part)
    return total / torch.bincount(labels, minlength=classes)[:, None]


def _scatter(x: Tensor, centres: Tensor, labels: Tensor | None = None) -> Tensor:
    """The mean outer product of the rows of x [N, D] less their centre, of centres [C, D]: float64 [D, D]."""
    total = torch.zeros(x.shape[1], x.shape[1], dtype=torch.double, device=x.device)
    whose = torch.zeros(len(x), dtype=torch.long, device=x.device) if labels is None else labels
    for part, y in zip(_doubles(x), whose.split(_ROWS)):
        part = part - centres[y]
        total += part.T @ part
    return total / len(x)


def _class_distances(x: Tensor, labels: Tensor, queries: Tensor, classes: int) -> Tensor:
    """Squared distances [M, C] to the class means in the metric of the covariance that they share."""
    means = _means(x, labels, classes)
    covariance = _scatter(x, means, labels)
    covariance.diagonal().add_(_RIDGE * covariance.diagonal().mean())
    white = torch.linalg.inv(torch.linalg.cholesky(covariance)).T  # [D, D]
    means = means @ white
    return torch.cat([torch.cdist(q @ white, means).square() for q in _doubles(queries)])
