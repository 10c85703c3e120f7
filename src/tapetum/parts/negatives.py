"""What repels: losses in which an image's vector must stand apart from those of other images. B images, D
dimensions. Memories hold vectors of length 1 and give no gradient; what is compared with them need not have
length 1."""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base.distributed import gather, rows
from tapetum.parts.losses import precise


@precise
def unit(x: Tensor) -> Tensor:
    """Rows of x [B, D] at length 1, in full precision."""
    return F.normalize(x, dim=1)


@precise
def info_nce(
    q: Tensor,
    k: Tensor,
    items: Tensor,
    temperature: float,
    harder: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Each query of q [B, D] picks its key in k [B, D] out of that key and a memory's items [N, D]
    (arXiv:1911.05722, equation 1).

    `harder` makes from the cosines of the queries with the items [B, N] more negatives' cosines [B, M].
    """
    q = unit(q)
    near = q @ items.T  # [B, N]
    own = (q * unit(k)).sum(1) / temperature  # [B]
    others = [near, harder(near)] if harder else [near]
    bottoms = [(cosines / temperature).logsumexp(1) for cosines in others]
    return (torch.stack([own, *bottoms]).logsumexp(0) - own).mean()


@precise
def in_batch(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    """Each row of q [B, D] picks the row of its image among the k [B, D] of all processes (arXiv:2104.02057,
    algorithm 1, without its factor of 2 * temperature)."""
    return F.cross_entropy(unit(q) @ gather(unit(k)).T / temperature, rows(q))


@precise
def decoupled(a: Tensor, b: Tensor, temperature: float, weight: Tensor | None = None) -> Tensor:
    """Rows of a and b [B, D] are two views of one image: they attract, with the weights [B], and both views
    of all other images repel; the pair itself is not in the denominator (arXiv:2110.06848)."""
    a, b = unit(a), unit(b)
    others = gather(torch.stack([a, b], 1)).transpose(0, 1).flatten(0, 1)  # [2 * W * B, D]
    own = rows(a)[:, None] == torch.arange(len(others), device=a.device) % (len(others) // 2)
    push = [(v @ others.T / temperature).masked_fill(own, -torch.inf).logsumexp(1) for v in (a, b)]
    pull = (a * b).sum(1) / temperature
    return ((push[0] + push[1]) / 2 - (pull if weight is None else weight * pull)).mean()


@torch.no_grad()
@precise
def von_mises_fisher(a: Tensor, b: Tensor, sigma: float) -> Tensor:
    """Weights [B], 1 on average, the larger the further the rows of a and b [B, D] are apart; they give no
    gradient, as in lightly (arXiv:2110.06848)."""
    near = (unit(a) * unit(b)).sum(1) / sigma
    others = gather(near)  # [W * B]
    return 2 - len(others) * (near - others.logsumexp(0)).exp()


def mixed_negatives(near: Tensor, items: Tensor, u: Tensor, hardest: int, pairs: int, own: int) -> Tensor:
    """Cosines of queries with negatives mixed out of their hardest (arXiv:2010.01028).

    Args:
        near: [B, N] cosines of the queries with the items of a memory [N, D].
        u: [B, 3 * pairs + 2 * own] random numbers in [0, 1).
        hardest: how many of the nearest items are mixed, at most N.
        pairs: mixtures of two of them in random shares.
        own: mixtures of one of them with the query itself, whose share stays below a half.

    Returns:
        [B, pairs + own]. What is mixed counts as given: gradients reach the queries, not the mixtures.
    """
    top = near.topk(min(hardest, near.shape[1]), dim=1).indices  # [B, K]
    first, step, share, alone, ours = u.split([pairs, pairs, pairs, own, own], 1)
    i = (first * top.shape[1]).long()
    j = (i + 1 + (step * (top.shape[1] - 1)).long()) % top.shape[1]  # another one
    i, j, k = (top.gather(1, at) for at in (i, j, (alone * top.shape[1]).long()))
    between, nearness, ours = (items[i] * items[j]).sum(2), near.gather(1, k), ours / 2
    of_pairs = (share * near.gather(1, i) + (1 - share) * near.gather(1, j)) / length(share, between)
    of_own = (ours + (1 - ours) * nearness) / length(ours, nearness.detach())
    return torch.cat([of_pairs, of_own], 1)


def length(share: Tensor, cosine: Tensor) -> Tensor:
    """Of share * a + (1 - share) * b, where a and b have length 1 and this cosine."""
    rest = 1 - share
    return (share**2 + rest**2 + 2 * share * rest * cosine).clamp(min=1e-12).sqrt()


@torch.no_grad()
@precise
def nearest(z: Tensor, items: Tensor) -> Tensor:
    """The memory's item [N, D] nearest to each row of z [B, D]: [B, D] (arXiv:2104.14548)."""
    return items[(unit(z) @ items.T).argmax(1)]


@precise
def among_all(v: Tensor, index: Tensor, memory: Tensor, temperature: float) -> Tensor:
    """Each vector of v [B, D] picks its own place, index [B], in a memory of all images [N, D]
    (arXiv:1805.01978, the full softmax)."""
    return F.cross_entropy(unit(v) @ memory.T / temperature, index)


@precise
def noise_contrast(v: Tensor, own: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Noise-contrastive estimation (arXiv:1805.01978): is a vector of the memory the image's
    own, or one of m drawn from the whole memory?

    Args:
        v: [B, D].
        own: [B, D] what the memory holds of the same images.
        noise: [m, D] drawn from the memory; the whole batch shares them, which leaves the mean as it is.

    The constant Z is what the paper estimates from the first batches, when the memory is random: the mean of
    exp(cos / temperature) over all directions, which is known.
    """
    v = unit(v)
    odds = math.log(len(noise)) + log_mean_exp_cosine(v.shape[1], temperature)  # of noise: m P_n Z
    is_own = F.softplus(odds - (v * own).sum(1) / temperature)
    is_noise = F.softplus(v @ noise.T / temperature - odds).sum(1)
    return (is_own + is_noise).mean()


@cache
def log_mean_exp_cosine(dim: int, temperature: float) -> float:
    """log E exp(cos / temperature) of a random direction in `dim` >= 2 dimensions with a fixed one."""
    angle = math.pi * (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    density = (dim - 2) * angle.sin().log()
    return float((angle.cos() / temperature + density).logsumexp(0) - density.logsumexp(0))


@precise
def same_relations(q: Tensor, k: Tensor, items: Tensor, temperature: float, target: float) -> Tensor:
    """Queries of q [B, D] should be as near to a memory's items [N, D] as their keys of k [B, D] are, softmax
    against softmax, the keys' at the `target` temperature (arXiv:2107.09282)."""
    wanted = (unit(k) @ items.T / target).softmax(1)
    return -(wanted * (unit(q) @ items.T / temperature).log_softmax(1)).sum(1).mean()
