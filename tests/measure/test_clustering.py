"""k-means and the agreement of groupings against scikit-learn, scipy and slow writings."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from tapetum.measure import clustering


def blobs(n, d=8, groups=6, spread=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(groups, (n,), generator=g)
    return 2 * torch.randn(groups, d, generator=g)[y] + spread * torch.randn(n, d, generator=g), y


def distances(x, centres):
    return (x[:, None].double() - centres.double()).square().sum(2)


@pytest.mark.parametrize("seed", range(4))
def test_kmeans_is_as_good_as_scikit_learns(seed):
    x, _ = blobs(500, spread=2.0, seed=seed)
    peer = KMeans(6, n_init=10, random_state=0).fit(x.numpy())
    assert clustering.kmeans(x, 6, restarts=10)[2] <= peer.inertia_ / 500 * 1.002


def test_kmeans_equals_scikit_learn_from_the_same_seeds():
    x, _ = blobs(400, spread=3.0)
    start = clustering._seeds(x, 6, 0, 0)
    peer = KMeans(6, init=start.numpy(), n_init=1, tol=0, max_iter=500).fit(x.numpy())
    centres, clusters, cost = clustering._descend(x, start, 500, 0.0)
    torch.testing.assert_close(centres, torch.from_numpy(peer.cluster_centers_), atol=1e-4, rtol=0)
    assert clusters.tolist() == peer.labels_.tolist()
    assert cost == pytest.approx(peer.inertia_ / 400, rel=1e-5)


def test_kmeans_ends_where_centres_are_means_and_rows_are_at_their_nearest():
    x, _ = blobs(300, spread=2.0)
    centres, clusters, cost = clustering.kmeans(x, 7, tolerance=0)
    there = distances(x, centres)
    assert clusters.tolist() == there.argmin(1).tolist()
    assert cost == pytest.approx(float(there.min(1).values.mean()), rel=1e-5)
    for group in range(7):
        torch.testing.assert_close(centres[group], x[clusters == group].mean(0), atol=1e-5, rtol=0)


def test_the_best_restart_is_kept_and_a_seed_repeats():
    x, _ = blobs(300, groups=20, spread=0.5)
    costs = [
        clustering._descend(x - x.mean(0), clustering._seeds(x - x.mean(0), 20, 5, r), 100, 0.0)[2]
        for r in range(4)
    ]
    assert len(set(costs)) > 1
    first = clustering.kmeans(x, 20, seed=5, restarts=4, tolerance=0)
    assert first[2] == min(costs)
    again = clustering.kmeans(x, 20, seed=5, restarts=4, tolerance=0)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], clustering.kmeans(x, 20, seed=6, restarts=4)[1])


def test_seeds_are_drawn_by_squared_distance():
    """Of three places, the farthest is the second seed almost always, and a place never twice."""
    places = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 30.0]])
    x = places.repeat(40, 1)
    for restart in range(20):
        seeds = clustering._seeds(x, 3, 0, restart)
        assert sorted(map(tuple, seeds.tolist())) == sorted(map(tuple, places.tolist()))
        assert (seeds[:2] == places[2]).all(1).any()
    firsts = {tuple(clustering._seeds(x, 1, 0, restart)[0].tolist()) for restart in range(20)}
    assert len(firsts) == 3


def test_kmeans_in_portions_is_the_same(monkeypatch):
    x, _ = blobs(300)
    whole = clustering.kmeans(x, 6)
    monkeypatch.setattr(clustering, "_CELLS", 6 * 17)
    torch.testing.assert_close(clustering.kmeans(x, 6)[0], whole[0])


def test_kmeans_far_from_the_origin():
    x, y = blobs(300, groups=4, spread=0.3)
    clusters = clustering.kmeans(x + 1000, 4)[1]
    assert clustering.adjusted_rand_index(clusters, y) == 1


def test_an_empty_cluster_starts_anew_where_rows_fit_worst():
    x = torch.tensor([[100.0], [101.0], [110.0], [111.0]])
    start = torch.tensor([[100.5], [500.0]])
    centres, clusters, cost = clustering._descend(x, start, 50, 0.0)
    assert sorted(centres[:, 0].tolist()) == [100.5, 110.5] and cost == 0.25
    assert clusters.tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_kmeans_of_equal_rows_and_of_too_few():
    centres, _, cost = clustering.kmeans(torch.ones(10, 3), 4)
    torch.testing.assert_close(centres, torch.ones(4, 3))
    assert cost == 0
    assert sorted(clustering.kmeans(torch.eye(5), 5)[1].tolist()) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="10 rows cannot make 11 clusters"):
        clustering.kmeans(torch.ones(10, 3), 11)


@pytest.mark.parametrize("kind", ["counts", "numbers"])
def test_the_assignment_equals_scipy(kind):
    g = np.random.default_rng(0)
    for _ in range(150):
        shape = g.integers(1, 12, 2)
        gain = g.integers(0, 6, shape) if kind == "counts" else g.normal(size=shape)
        rows, columns = clustering.assignment(gain)
        assert len(rows) == len(set(rows)) == len(set(columns)) == min(shape)
        assert gain[rows, columns].sum() == pytest.approx(
            gain[linear_sum_assignment(gain, maximize=True)].sum()
        )


def test_the_assignment_is_the_best_of_all():
    gain = np.random.default_rng(1).normal(size=(6, 6))
    best = max(sum(gain[i, p[i]] for i in range(6)) for p in itertools.permutations(range(6)))
    assert gain[clustering.assignment(gain)].sum() == pytest.approx(best)


@pytest.mark.parametrize(("clusters", "classes"), [(5, 5), (9, 4), (3, 7)])
def test_matched_rows_have_the_best_classes(clusters, classes):
    g = np.random.default_rng(2)
    y = g.integers(0, classes, 300)
    found = np.where(g.random(300) < 0.6, (y * 2 + 1) % clusters, g.integers(0, clusters, 300))
    table = np.zeros((clusters, classes))
    np.add.at(table, (found, y), 1)
    best = table[linear_sum_assignment(-table)].sum() / 300
    named = clustering.matched(torch.from_numpy(found), torch.from_numpy(y))
    assert float((named.numpy() == y).mean()) == pytest.approx(best)
    assert len(named.unique()) == min(clusters, classes) + (clusters > classes)
    assert (int(named.min()) == -1) == (clusters > classes)


@pytest.mark.parametrize("seed", range(5))
def test_agreement_equals_scikit_learn(seed):
    g = np.random.default_rng(seed)
    a, b = g.integers(0, 2 + seed, 200), g.integers(0, 4, 200)
    b[:80] = a[:80] % 4
    ours, theirs = map(torch.from_numpy, (a, b))
    assert clustering.normalised_mutual_information(ours, theirs) == pytest.approx(
        normalized_mutual_info_score(b, a), abs=1e-9
    )
    assert clustering.adjusted_rand_index(ours, theirs) == pytest.approx(adjusted_rand_score(b, a), abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([0, 0, 0], [0, 0, 0]),
        ([0, 1, 2], [2, 0, 1]),
        ([0, 0, 0], [0, 1, 2]),
        ([0, 1, 0, 1], [0, 0, 1, 1]),
        ([0], [0]),
    ],
)
def test_agreement_of_extreme_groupings_equals_scikit_learn(a, b):
    ours = [torch.tensor(a), torch.tensor(b)]
    assert clustering.normalised_mutual_information(*ours) == pytest.approx(
        normalized_mutual_info_score(a, b)
    )
    assert clustering.adjusted_rand_index(*ours) == pytest.approx(adjusted_rand_score(a, b))


def test_spherical_kmeans_ends_where_centres_are_mean_directions():
    x, _ = blobs(300, spread=2.0)
    x = x + 3
    centres, clusters, cost = clustering.kmeans(x, 5, tolerance=0, spherical=True)
    unit = torch.nn.functional.normalize(x, dim=1)
    assert clusters.tolist() == (unit @ centres.T).argmax(1).tolist()
    for group in range(5):
        mean = unit[clusters == group].mean(0)
        torch.testing.assert_close(centres[group], mean / mean.norm(), atol=1e-5, rtol=0)
    assert cost == pytest.approx(float((2 - 2 * (unit @ centres.T).max(1).values).mean()), rel=1e-4)
    assert torch.equal(clusters, clustering.kmeans(7 * x, 5, tolerance=0, spherical=True)[1])


def test_kmeans_keeps_double_precision():
    x, _ = blobs(100)
    assert clustering.kmeans(x.double(), 3)[0].dtype == torch.float64


@pytest.mark.parametrize("dim", [4, 8, 100])
def test_whitened_equals_scikit_learn(dim):
    x, _ = blobs(200)
    x = x.double() @ torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    peer = PCA(min(dim, 8), whiten=True, svd_solver="full").fit_transform(x.numpy())
    peer = torch.from_numpy(peer / np.linalg.norm(peer, axis=1, keepdims=True))
    ours = clustering.whitened(x, dim)
    assert ours.shape == (200, min(dim, 8))
    torch.testing.assert_close(ours @ ours.T, peer @ peer.T, atol=1e-3, rtol=0)  # a direction's sign is free


def test_whitening_rows_without_any_spread_gives_numbers():
    assert clustering.whitened(torch.ones(5, 3), 2).isfinite().all()
    flat = torch.randn(50, 3) * torch.tensor([1.0, 1.0, 0.0])
    assert clustering.whitened(flat, 3).isfinite().all()
