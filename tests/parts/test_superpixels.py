"""Superpixels against k-means in loops, and on an image whose parts are known."""

import torch

from tapetum.parts.superpixels import superpixels


def test_superpixels_are_k_means_from_a_grid():
    x = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = superpixels(x, 2, rounds=3)
    for image, ids in zip(x, got):
        places = [(i, j) for i in range(6) for j in range(6)]
        points = {
            (i, j): torch.tensor([*(10 * image[:, i, j]).tolist(), (j + 0.5) / 3, (i + 0.5) / 3]).double()
            for i, j in places
        }
        own = {(i, j): 2 * (i // 3) + j // 3 for i, j in places}
        for _ in range(3):
            members = {k: [points[p] for p in places if own[p] == k] for k in range(4)}
            means = {k: sum(group) / len(group) for k, group in members.items() if group}
            own = {p: min(means, key=lambda k: float((points[p] - means[k]).norm())) for p in places}
        assert [[own[i, j] for j in range(6)] for i in range(6)] == ids.tolist()


def test_superpixels_do_not_cross_a_border_of_colours():
    x = torch.zeros(1, 3, 12, 12)
    x[..., 5:] = 1.0  # the grid's own border lies at 6
    ids = superpixels(x, 2)[0]
    assert not set(ids[:, :5].flatten().tolist()) & set(ids[:, 5:].flatten().tolist())
    assert len(ids.unique()) == 4
