"""Whether two measurements on the same images differ by more than chance: exact and approximate tests."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from tapetum.measure.metrics import bootstrap, spearman

Z = 1.959964  # of the normal distribution, for 95 %
TOO_FEW = 4  # subjects, of which no rank correlation has an interval


def mcnemar(only_first: int, only_second: int) -> float:
    """The probability, if both are right equally often, of a split at least as uneven as this one of the
    images that just one of the two answers rightly: McNemar's test (1947) in its exact, binomial form."""
    n, least = only_first + only_second, min(only_first, only_second)
    if 2 * least >= n:
        return 1.0
    k = torch.arange(least + 1, dtype=torch.float64)
    ways = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return min(1.0, 2 * float((ways - n * math.log(2)).exp().sum()))


def student_p(t: float, freedom: float) -> float:
    """The probability that Student's t with so many degrees of freedom lies at least as far from 0 as t."""
    if not math.isfinite(t):
        return 0.0
    return _beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def student(freedom: float) -> float:
    """The 97.5 % quantile of Student's t; infinite below one degree of freedom."""
    if freedom < 1:
        return math.inf
    low, high = Z, 13.0  # of one degree it is 12.7
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_p(middle, freedom) > 0.05 else (low, middle)
    return high


def _beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction, from its far end on."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where this fraction converges slowly, that of the rest does not
        return 1 - _beta(1 - x, b, a)
    fraction = 1.0
    for k in range(100 + int(10 * math.sqrt(a + b)), 0, -1):
        m = k // 2
        if k % 2:
            part = -(a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            part = m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m))
        fraction = 1 + part * x / fraction
    ways = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(ways + a * math.log(x) + b * math.log1p(-x)) / a / fraction


def holm(p: Sequence[float]) -> list[float]:
    """Each probability for one comparison as that for all of them together (Holm 1979), in the same order."""
    found, highest = [1.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        found[i] = highest
    return found


def welch(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The standard error and the degrees of freedom of a sum of independent parts, each of (variance, degrees
    of freedom) (Welch 1947)."""
    total = sum(variance for variance, _ in parts)
    if total <= 0:
        return 0.0, math.inf
    return math.sqrt(total), total**2 / sum(variance**2 / freedom for variance, freedom in parts)


def bootstrap_mean(each: Tensor, seed: int = 0) -> Tensor:
    """`bootstrap` of the mean of numbers [n], as float64, sorted: all draws in one product."""
    return (_counts(len(each), seed) @ each.float()).div_(len(each)).double().sort().values


@lru_cache(maxsize=2)
def _counts(n: int, seed: int) -> Tensor:
    """How often the bootstrap draws each of n rows: [draws, n]; the same for all who are compared."""
    found: list[Tensor] = []

    def count(rows: Tensor) -> float:
        found.append(rows.bincount(minlength=n).float())
        return 0.0

    bootstrap(count, n, seed)
    return torch.stack(found)


def rank_correlation(first: Tensor, second: Tensor) -> tuple[float, tuple[float, float]]:
    """Spearman's correlation of two rows of numbers [N], and its 95 % interval (Bonett and Wright 2000).

    A perfect order is taken as half a step of the correlation below 1, or its interval would be a point.
    Below 5 numbers the interval is everything.
    """
    n, found = len(first), spearman(first, second)
    if n <= TOO_FEW or not math.isfinite(found):
        return found, (-1.0, 1.0)
    most = 1 - 6 / (n * (n * n - 1))
    inner = min(max(found, -most), most)
    middle, half = math.atanh(inner), Z * math.sqrt((1 + inner**2 / 2) / (n - 3))
    low, high = math.tanh(middle - half), math.tanh(middle + half)
    return found, (-1.0 if found <= -most else low, 1.0 if found >= most else high)
