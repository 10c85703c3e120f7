"""Block-wise masks: their share, their rectangles, and that each image has its own."""

import pytest
import torch

from tapetum.parts.blocks import TRIES, _rectangles, blocks
from tapetum.views import Batch, Draw


def batch_of(count: int, first: int = 0, seed: int = 0) -> Batch:
    return Batch({}, Draw(seed, 0, 0, torch.arange(first, first + count)))


@pytest.mark.parametrize("grid", [4, 8, 14])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.75])
def test_an_exact_share_is_hidden(grid, share):
    hidden = blocks(batch_of(64), grid, share, exact=True)
    assert hidden.shape == (64, grid**2) and hidden.dtype == torch.bool
    assert (hidden.sum(1) == int(share * grid**2)).all()


@pytest.mark.parametrize("grid", [4, 8, 14])
def test_otherwise_the_last_rectangle_is_whole(grid):
    hidden = blocks(batch_of(256), grid, 0.4).sum(1)
    want = int(0.4 * grid**2)
    assert (hidden >= want).all() and (hidden <= want + 1 + 1.5 * (grid // 3) ** 2).all()
    assert (hidden > want).any()


def test_every_image_has_its_own_share():
    share = torch.linspace(0, 1, 11)
    hidden = blocks(batch_of(11), 10, share, exact=True)
    assert hidden.sum(1).tolist() == [10 * i for i in range(11)]
    assert not blocks(batch_of(11), 10, share)[0].any()


def test_the_smallest_share_of_a_method_hides_something():
    assert blocks(batch_of(64), 4, 0.0).any(1).all()


def test_masks_belong_to_the_image_and_to_the_name():
    whole = blocks(batch_of(8), 8, 0.4)
    assert torch.equal(whole[5:], blocks(batch_of(3, first=5), 8, 0.4))
    assert len(whole.unique(dim=0)) == 8
    assert not torch.equal(whole, blocks(batch_of(8), 8, 0.4, name="other"))
    assert not torch.equal(whole, blocks(batch_of(8, seed=1), 8, 0.4))


def test_rectangles_are_of_the_papers_sizes_and_lie_anywhere():
    u = torch.rand(20_000, 4, generator=torch.Generator().manual_seed(0))
    hidden = _rectangles(u, torch.full((len(u),), 78), 14)
    tall, wide = hidden.any(2).sum(1), hidden.any(1).sum(1)
    area = hidden.sum((1, 2))
    assert torch.equal(area, tall * wide)  # rectangles
    aspect = tall / wide
    inner = (tall < 14) & (wide < 14)  # not cut at the border
    assert aspect[inner].min() > 0.2 and aspect[inner].max() < 5 and abs(aspect.log().mean()) < 0.02
    assert area.min() >= 11 and area.max() <= 78 * 1.2
    assert abs(float(area[inner].float().mean()) - (16 + 78) / 2) < 2
    share = hidden.float().mean(0)
    torch.testing.assert_close(share, share.flip(0), atol=0.03, rtol=0)
    torch.testing.assert_close(share, share.T, atol=0.03, rtol=0)
    assert share.min() > 0.02  # corners, too


def test_hidden_patches_hang_together():
    """Far more neighbours are hidden together than in a mask of single patches."""
    hidden = blocks(batch_of(200), 14, 0.4, exact=True).view(-1, 14, 14)
    together = (hidden[:, 1:] & hidden[:, :-1]).float().mean()
    assert together > 0.3 > 1.5 * 0.4**2


def test_a_share_is_reached_within_the_tries():
    for grid, share in ((4, 0.5), (8, 0.6), (14, 0.75), (32, 0.4)):
        reached = blocks(batch_of(500), grid, share).sum(1) >= int(share * grid**2)
        assert reached.float().mean() > 0.97, (grid, share, TRIES)
