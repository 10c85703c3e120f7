"""Paired tests equal scipy's and slow writings of them, and hold what their probabilities promise."""

import math
from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy import stats

from tapetum.measure import paired


@pytest.mark.parametrize(
    "first, second", [(0, 0), (0, 1), (5, 5), (3, 9), (40, 80), (1000, 1200), (30_000, 0)]
)
def test_mcnemar_is_the_exact_binomial_test(first, second):
    n = first + second
    expected = stats.binomtest(first, n).pvalue if n else 1.0
    assert paired.mcnemar(first, second) == pytest.approx(expected, rel=1e-8, abs=1e-300)
    assert paired.mcnemar(second, first) == paired.mcnemar(first, second)


@pytest.mark.parametrize("freedom", [1, 2, 3.7, 9, 24, 199, 9999])
def test_students_t_is_scipys(freedom):
    for t in (0.0, 0.01, 0.5, 1.0, 1.96, 2.5, -3.0, 8.0, 30.0):
        assert paired.student_p(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-8)
    assert paired.student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-6)


def test_t_without_degrees_of_freedom_or_without_an_end():
    assert paired.student(0) == math.inf
    assert paired.student_p(math.inf, 5) == 0


def test_holm_is_its_definition():
    p = [0.01, 0.04, 0.03, 0.005, 0.5, 0.03]
    order = np.argsort(p, kind="stable")
    expected = np.empty(6)
    for rank, i in enumerate(order):
        expected[i] = min(1, max((6 - j) * p[order[j]] for j in range(rank + 1)))
    assert paired.holm(p) == pytest.approx(expected.tolist())
    assert paired.holm([]) == [] and paired.holm([0.2]) == [0.2]


def test_holm_rarely_finds_anything_where_nothing_is():
    p = np.random.default_rng(0).random((4000, 8))
    share = np.mean([min(paired.holm(row)) < 0.05 for row in p.tolist()])
    assert 0.035 < share < 0.06
    assert np.mean(p.min(1) < 0.05) > 0.3, "without it every third would"


def test_welch_is_that_of_the_t_test():
    g = np.random.default_rng(1)
    a, b = g.normal(0, 1, 12), g.normal(0.3, 3, 7)
    error, freedom = paired.welch([(x.var(ddof=1) / len(x), len(x) - 1) for x in (a, b)])
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert freedom == pytest.approx(expected.df)
    assert (a.mean() - b.mean()) / error == pytest.approx(expected.statistic)
    assert paired.welch([(0.0, 3), (0.0, 5)]) == (0.0, math.inf)


def test_rank_correlation_is_scipys():
    g = np.random.default_rng(2)
    a = g.integers(0, 6, 15).astype(float)
    b = a + g.normal(0, 2, 15)
    found, (low, high) = paired.rank_correlation(torch.from_numpy(a), torch.from_numpy(b))
    expected = stats.spearmanr(a, b).statistic
    assert found == pytest.approx(expected)
    assert math.atanh(high) - math.atanh(found) == pytest.approx(
        1.96 * ((1 + found**2 / 2) / 12) ** 0.5, abs=1e-4
    )
    assert math.atanh(found) - math.atanh(low) == pytest.approx(math.atanh(high) - math.atanh(found))


def test_a_perfect_order_of_few_still_has_an_interval():
    n = torch.arange(6.0)
    found, (low, high) = paired.rank_correlation(n, n)
    assert (found, high) == (pytest.approx(1), 1.0) and 0.3 < low < 0.99
    found, (low, high) = paired.rank_correlation(n, -n)
    assert (found, low) == (pytest.approx(-1), -1.0) and -0.99 < high < -0.3
    assert paired.rank_correlation(n[:4], n[:4])[1] == (-1.0, 1.0)
    steps = {round(float(stats.spearmanr(range(5), order).statistic), 9) for order in permutations(range(5))}
    assert 1 - sorted(steps)[-2] == pytest.approx(2 * 6 / (5 * 24)), "half of one step is what it is below 1"


def test_the_interval_of_a_rank_correlation_covers_the_truth():
    g, inside = np.random.default_rng(3), 0
    truth = 6 / math.pi * math.asin(0.7 / 2)  # Spearman's, of normal numbers that correlate by 0.7
    for _ in range(400):
        x = g.normal(size=(2, 20))
        x[1] = 0.7 * x[0] + math.sqrt(1 - 0.49) * x[1]
        low, high = paired.rank_correlation(*torch.from_numpy(x))[1]
        inside += low <= truth <= high
    assert 0.91 < inside / 400 < 0.985


def test_mcnemar_by_counting_all_ways():
    ways = list(product((0, 1), repeat=9))
    for first in range(10):
        uneven = abs(2 * first - 9)
        share = sum(abs(2 * sum(way) - 9) >= uneven for way in ways) / len(ways)
        assert paired.mcnemar(first, 9 - first) == pytest.approx(share)
