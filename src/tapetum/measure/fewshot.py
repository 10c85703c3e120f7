"""Few-shot episodes: which images they take, and the classifiers that learn from a handful, all at once."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base import random

_CELLS = 2**24  # random numbers held at once: 64 MB
_STEPS = 2000  # of the regression at most; tens are usual


def episodes(labels: Tensor, ways: int, images: int, count: int, seed: int = 0) -> Tensor:
    """The rows that each of `count` episodes takes: int64 [count, ways, images].

    An episode draws `ways` of the classes that have at least so many `images` among `labels` [N] (-1 = none),
    and of each of them its images, none twice. Raises ValueError where there are fewer such classes.
    """
    size = labels[labels >= 0].bincount()
    large = (size >= images).nonzero()[:, 0]
    if len(large) < ways:
        raise ValueError(f"{len(large)} classes have {images} images, {ways} are wanted")
    rows = labels.argsort(stable=True)[int((labels < 0).sum()) :]  # class by class
    start = size.cumsum(0) - size
    found = []
    for part in torch.arange(count).split(max(1, _CELLS // int(ways * size.max()))):
        chosen = large[random.uniform(seed, 0, part, "ways", (len(large),)).argsort(1)[:, :ways]]  # [e, W]
        u = random.uniform(seed, 0, part, "shots", (ways, int(size.max())))
        u[torch.arange(u.shape[2]) >= size[chosen][..., None]] = 2.0  # beyond the class
        within = u.topk(images, dim=2, largest=False).indices  # [e, W, images]
        found.append(rows[start[chosen][..., None] + within])
    return torch.cat(found)


def nearest_mean(support: Tensor, queries: Tensor) -> Tensor:
    """The class of each of `queries` [E, M, D], int64 [E, M]: the nearest mean of `support` [E, W, S, D]."""
    return torch.cdist(queries, support.mean(2)).argmin(2)


def logistic(support: Tensor, queries: Tensor, cost: float = 1.0) -> Tensor:
    """The class of each of `queries` [E, M, D], int64 [E, M], by a regression in each episode on `support`
    [E, W, S, D]: scikit-learn's LogisticRegression at C = `cost`, its biases free.

    The curvature of a softmax is at most half that of least squares (Böhning 1992), so that one fixed matrix
    for each episode gives steps that never overshoot.
    """
    ways, shots = support.shape[1:3]
    x = support.flatten(1, 2).double()  # [E, n, D]
    basis = torch.linalg.qr(x.mT).Q  # the weights lie in the span of the images: [E, D, r]
    x, queries = (F.pad(part @ basis, (0, 1), value=1.0) for part in (x, queries.double()))
    target = F.one_hot(torch.arange(ways, device=x.device).repeat_interleave(shots)).double()  # [n, W]
    penalty = torch.ones(x.shape[2], 1, dtype=x.dtype, device=x.device)
    penalty[-1] = 0  # of the biases
    bound = torch.linalg.cholesky(cost / 2 * x.mT @ x + penalty * torch.eye(len(penalty), device=x.device))
    weight = x.new_zeros(len(x), x.shape[2], ways)
    for _ in range(_STEPS):
        slope = cost * x.mT @ ((x @ weight).softmax(2) - target) + penalty * weight  # [E, r + 1, W]
        if float(slope.abs().max()) < 1e-7 * cost:
            break
        weight -= torch.cholesky_solve(slope, bound)
    return (queries @ weight).argmax(2)
