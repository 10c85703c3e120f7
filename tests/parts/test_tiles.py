"""Tiles stand where they are asked for, tell nothing of their place, and are shuffled far apart."""

import itertools

import pytest
import torch

from tapetum.base.errors import TapetumError
from tapetum.parts.tiles import cut, evened, far_apart, one_channel, whole_patches


def test_tiles_are_the_pixels_at_their_places():
    x = torch.rand(2, 3, 11, 11)
    left, top = torch.tensor([[0, 7], [3, 1]]), torch.tensor([[2, 0], [6, 7]])
    got = cut(x, left, top, 4)
    assert got.shape == (2, 2, 3, 4, 4)
    for b, n in itertools.product(range(2), range(2)):
        i, j = int(top[b, n]), int(left[b, n])
        assert torch.equal(got[b, n], x[b, :, i : i + 4, j : j + 4])


@pytest.mark.parametrize(
    ("side", "patch", "fitting"), [(9.7, None, 9), (84.6, 16, 80), (9.0, 8, 8), (5.0, 8, 8)]
)
def test_a_tile_is_whole_patches(side, patch, fitting):
    assert whole_patches(side, patch, 80) == fitting


def test_a_tile_without_room_is_refused():
    with pytest.raises(TapetumError, match=r"tiles of 16 pixels.*do not fit into the 11"):
        whole_patches(9, 16, 10.6)


def test_evened_tiles_have_the_mean_and_spread_that_were_asked_for():
    tiles = torch.rand(2, 9, 3, 6, 6, dtype=torch.float64) * 0.3 + torch.rand(2, 9, 3, 1, 1)
    tiles[0, 0] = 0.25  # of one colour
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    got = evened(tiles, mean, std)
    torch.testing.assert_close(got.mean((-2, -1)), mean.flatten().expand(2, 9, 3).double())
    spread = got.std((-2, -1), correction=0)
    torch.testing.assert_close(spread[1], std.flatten().expand(9, 3).double())
    assert spread[0, 0].max() == 0


def test_one_channel_is_left_and_the_others_are_faint_noise():
    tiles = torch.rand(400, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mean = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
    u = torch.rand(400, 3, generator=torch.Generator().manual_seed(1))
    got = one_channel(tiles, mean, u)
    left = (3 * u[:, 0]).long()
    for i in range(400):
        assert torch.equal(got[i, left[i]], tiles[i, left[i]])
        noise = torch.cat([(got[i, c] - mean[c]).flatten() for c in range(3) if c != left[i]])
        spread = float(noise.std() / tiles[i, left[i]].std())
        assert 0.006 < spread < 0.015 and abs(noise.mean()) < 0.005
    grey = tiles[:, :1]
    assert torch.equal(one_channel(grey, mean[:1], u), grey)


def test_orders_are_chosen_as_far_apart_as_greed_can():
    got = far_apart(30, tiles=5).tolist()
    every = [list(p) for p in itertools.permutations(range(5))]
    assert got[0] == every[0] and len({tuple(p) for p in got}) == 30
    for n in range(1, 30):
        away = {
            tuple(p): [sum(a != b for a, b in zip(p, q)) for q in got[:n]] for p in every if p not in got[:n]
        }
        best = max((sum(gaps), min(gaps)) for gaps in away.values())
        gaps = away[tuple(got[n])]
        assert (sum(gaps), min(gaps)) == best


def test_nine_orders_differ_everywhere():
    orders = far_apart(9)
    for a, b in itertools.combinations(orders, 2):
        assert (a != b).all()
