"""Groups without labels: k-means, and how well given clusters agree with classes."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base import random

_CELLS = 2**24  # distances held at once: 64 MB


@torch.no_grad()
def kmeans(
    x: Tensor,
    k: int,
    *,
    seed: int = 0,
    restarts: int = 3,
    iterations: int = 100,
    tolerance: float = 1e-4,
    spherical: bool = False,
) -> tuple[Tensor, Tensor, float]:
    """Centres [k, D], the cluster of each row of x [N, D] as int64 [N], and the mean squared distance.

    Lloyd's algorithm (1982), the best of `restarts` that each begin with greedy k-means++ (Arthur and
    Vassilvitskii 2007). One ends when no row changes its cluster, when the centres' squared movement is at
    most `tolerance` times the mean variance of a column, or after so many iterations. The same seed gives the
    same clusters. Distances are taken in portions, so memory does not grow with N times k. Of `spherical`
    k-means, rows and centres have length 1.
    """
    if not 1 <= k <= len(x):
        raise ValueError(f"{len(x)} rows cannot make {k} clusters")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    x = F.normalize(x, dim=1) if spherical else x
    mean = x.mean(0) * (not spherical)
    x = x - mean  # distances keep their digits where the mean is far away
    still = tolerance * float(x.square().mean())
    starts = (_seeds(x, k, seed, restart) for restart in range(restarts))
    tries = (_descend(x, start, iterations, still, spherical) for start in starts)
    centres, clusters, cost = min(tries, key=lambda found: found[2])
    return centres + mean, clusters, cost


def nearest(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of x [N, D] its nearest of `centres` [k, D], int64 [N], and the squared distance [N]."""
    half = centres.square().sum(1) / 2
    found = [
        torch.addmm(half, part, centres.T, alpha=-1).min(1)
        for part in x.split(max(1, _CELLS // len(centres)))
    ]
    distance = x.square().sum(1) + 2 * torch.cat([part.values for part in found])
    return torch.cat([part.indices for part in found]), distance.clamp_(min=0)


def _seeds(x: Tensor, k: int, seed: int, restart: int) -> Tensor:
    """Rows of x [N, D] that lie far apart, [k, D]: each is the best of a few, drawn by squared distance."""
    tries = 2 + int(math.log(k))
    u = random.uniform(seed, restart, torch.arange(k), "k-means", (tries,)).to(x.device).double()
    squares = x.square().sum(1, keepdim=True)

    def distances(rows: Tensor) -> Tensor:
        return (squares + squares[rows].T - 2 * x @ x[rows].T).clamp_(min=0)  # [N, tries]

    chosen = [(u[0, 0] * len(x)).long()]
    closest = distances(chosen[0][None])  # [N, 1]
    for draw in u[1:]:
        upto = closest[:, 0].cumsum(0, dtype=torch.float64)
        drawn = torch.searchsorted(upto, draw * upto[-1], right=True).clamp_(max=len(x) - 1)
        left = torch.minimum(closest, distances(drawn))  # [N, tries]: what each would leave
        best = left.sum(0, dtype=torch.float64).argmin()
        chosen.append(drawn[best])
        closest = left[:, best, None]
    return x[torch.stack(chosen)]


def _descend(
    x: Tensor, centres: Tensor, iterations: int, still: float, spherical: bool = False
) -> tuple[Tensor, Tensor, float]:
    """From these centres to the nearest minimum of the mean squared distance."""
    clusters, distance = nearest(x, centres)
    for _ in range(iterations):
        before, old = clusters, centres
        centres = _means(x, clusters, distance, len(centres))
        centres = F.normalize(centres, dim=1) if spherical else centres
        clusters, distance = nearest(x, centres)
        if bool((clusters == before).all()) or float((centres - old).square().sum()) <= still:
            break
    return centres, clusters, float(distance.mean(dtype=torch.float64))


def _means(x: Tensor, clusters: Tensor, distance: Tensor, k: int) -> Tensor:
    """The mean row of each cluster [k, D]; an empty one starts anew at the row that fits worst."""
    count = clusters.bincount(minlength=k)
    sums = x.new_zeros(k, x.shape[1]).index_put_(
        (clusters,), x, accumulate=True
    )  # the same bits on a GPU too
    empty = (count == 0).nonzero()[:, 0]
    sums[empty] = x[distance.topk(len(empty)).indices]
    return sums / count.clamp(min=1)[:, None]


def whitened(x: Tensor, dim: int) -> Tensor:
    """Rows of x [N, D] along their `dim` largest principal directions (at most D), each scaled to variance 1,
    and then to length 1: [N, dim], which is what DeepCluster groups (arXiv:1807.05520)."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    x = x - x.mean(0)
    variance, directions = torch.linalg.eigh(x.T @ x / len(x))  # the largest last
    scale = (variance + 1e-6 * variance[-1]).clamp(min=1e-12).rsqrt()
    return F.normalize(x @ (directions * scale)[:, -dim:], dim=1)


def contingency(a: Tensor, b: Tensor) -> Tensor:
    """How many rows have each pair of values of a [N] and b [N], both >= 0: int64 [max a + 1, max b + 1]."""
    wide, high = int(b.max()) + 1, int(a.max()) + 1
    return torch.bincount(a.long() * wide + b.long(), minlength=high * wide).view(high, wide)


def assignment(gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (rows [m], columns [m]) of `gain` [R, C] with the largest sum, m = min(R, C).

    No row and no column is in two pairs. Rows are added one by one along the shortest augmenting path, each
    in at most C passes over a row (Jonker and Volgenant 1987; Crouse 2016).
    """
    cost = -np.asarray(gain, dtype=np.float64)
    if len(cost) > cost.shape[1]:
        columns, rows = assignment(np.asarray(gain).T)
        order = rows.argsort()
        return rows[order], columns[order]
    if len(cost) == cost.shape[1]:  # all columns are taken, so only what differs between rows decides:
        cost = cost - cost.mean(0)  # rows that are alike no longer all begin at the same columns
    of_row, of_column = np.full(len(cost), -1), np.full(cost.shape[1], -1)  # the partner of each
    row_price, column_price = np.zeros(len(cost)), np.zeros(cost.shape[1])  # the dual solution
    for start in range(len(cost)):
        far, back = np.full(len(of_column), np.inf), np.full(len(of_column), start)  # the way to each column
        reached = np.zeros(len(of_column), dtype=bool)
        row, length = start, 0.0
        while row >= 0:
            through = length + cost[row] - row_price[row] - column_price
            shorter = ~reached & (through < far)
            far[shorter], back[shorter] = through[shorter], row
            column = int(np.where(reached, np.inf, far).argmin())
            reached[column], length, row = True, far[column], of_column[column]
        passed = reached & (of_column >= 0)
        row_price[of_column[passed]] += length - far[passed]
        row_price[start] += length
        column_price[reached] -= length - far[reached]
        while column >= 0:  # swap partners on the way back; the first row had none
            row = back[column]
            of_column[column] = row
            of_row[row], column = column, of_row[row]
    return np.arange(len(cost)), of_row


def matched(clusters: Tensor, labels: Tensor) -> Tensor:
    """The class that each row is taken for, int64 [N]: that of its cluster, -1 for a cluster without one.

    Clusters [N] and classes [N] are paired one to one so that most rows are right; the share of rows that are
    is the clustering accuracy (Yang et al. 2010).
    """
    table = contingency(clusters, labels)
    rows, columns = assignment(table.cpu().numpy())
    of_cluster = torch.full((len(table),), -1, device=clusters.device)
    of_cluster[torch.from_numpy(rows)] = torch.from_numpy(columns).to(clusters.device)
    return of_cluster[clusters]


def normalised_mutual_information(a: Tensor, b: Tensor) -> float:
    """Of two groupings a [N], b [N]: their mutual information over the mean of their entropies, in [0, 1].

    The arithmetic mean, as scikit-learn has it; 1 when neither divides anything.
    """
    joint = contingency(a, b).double() / len(a)
    rows, columns = joint.sum(1), joint.sum(0)
    entropies = float(_entropy(rows) + _entropy(columns))
    mutual = entropies - float(_entropy(joint.flatten()))
    return max(0.0, 2 * mutual / entropies) if entropies else 1.0


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum()


def adjusted_rand_index(a: Tensor, b: Tensor) -> float:
    """Of two groupings a [N], b [N]: how much more often pairs of rows agree than by chance.

    1 for the same grouping, about 0 for unrelated ones, at least -0.5 (Hubert and Arabie 1985).
    """
    table = contingency(a, b)

    def pairs(count: Tensor) -> float:
        return float((count * (count - 1)).sum()) / 2

    both, of_a, of_b = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    chance = of_a * of_b / max(pairs(torch.tensor([len(a)])), 1)
    most = (of_a + of_b) / 2
    return (both - chance) / (most - chance) if most != chance else 1.0
