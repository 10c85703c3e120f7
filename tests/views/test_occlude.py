"""What is hidden is the box, the grid or the blocks that were drawn, and the rest stays."""

import itertools

import pytest
import torch
from torchvision.transforms import functional as TF

from tapetum import views as V
from tapetum.base.errors import TapetumError
from tapetum.views import engine
from view_tools import drawn, parameters, photos

KINDS = pytest.mark.parametrize(
    "step",
    [V.Erase(p=1.0), V.Cutout(), V.GridMask(p=1.0), V.BlockMask(p=1.0)],
    ids=lambda s: type(s).__name__,
)


@KINDS
@pytest.mark.parametrize("cover", ["zero", "mean", "noise"])
def test_only_what_is_hidden_changes_and_it_shows_the_cover(step, cover):
    step = type(step)(p=1.0, cover=cover)
    x = photos(20, 40) * 0.8 / 255 + 0.1
    given = parameters(step, 20)
    hidden = step.hidden(given, 40).expand_as(x)
    y = step.paint(x, given)
    assert torch.equal(y[~hidden], x[~hidden]) and hidden.any() and not hidden.all()
    if cover == "zero":
        assert (y[hidden] == 0).all()
    elif cover == "mean":
        mean = x.mean((2, 3), keepdim=True).expand_as(x)
        torch.testing.assert_close(y[hidden], mean[hidden], atol=1e-5, rtol=0)
    else:
        from scipy import stats

        assert stats.kstest(y[hidden].numpy(), "uniform").pvalue > 1e-3
        assert len(y[hidden].unique()) > 0.9 * hidden.sum()


def test_erase_is_torchvisions_for_the_same_box():
    images = photos(20, 50)
    step = V.Erase(cover="zero", p=1.0)
    given = parameters(step, 20)
    ours = step.paint(images / 255, given)
    for i in range(20):
        box = {name: float(given[name][i]) * 50 for name in ("top", "left", "height", "width")}
        top, left = round(box["top"]), round(box["left"])
        bottom, right = round(box["top"] + box["height"]), round(box["left"] + box["width"])
        want = TF.erase(images[i] / 255, top, left, bottom - top, right - left, torch.zeros(()))
        assert torch.equal(ours[i], want)


def test_cutout_is_a_square_around_any_pixel_cut_at_the_border():
    step = V.Cutout(0.5)
    hidden = step.hidden(parameters(step, 3000), 32)[:, 0]
    assert (hidden.sum((1, 2)) <= 17 * 17).all() and hidden.sum((1, 2)).min() < 11 * 11
    share = hidden.float().mean(0)  # the middle is hidden four times as often as a corner
    assert abs(float(share[16, 16]) - 0.25) < 0.04 and abs(float(share[0, 0]) - 0.07) < 0.02


def test_grid_mask_hides_squares_of_the_period_it_draws():
    step = V.GridMask((0.25, 0.25), 0.6, p=1.0)
    given = {"unit": torch.tensor([0.25]), "left": torch.tensor([0.0]), "top": torch.tensor([0.5])}
    hidden = step.hidden(given, 40)[0, 0]
    columns, rows = (torch.arange(40) % 10 >= 6), ((torch.arange(40) + 5) % 10 >= 6)
    assert torch.equal(hidden, rows[:, None] & columns)
    assert abs(float(step.hidden(parameters(step, 500), 50).float().mean()) - 0.4**2) < 0.01


def test_block_mask_hides_whole_blocks_each_by_itself():
    step = V.BlockMask(4, 0.3)
    hidden = step.hidden(parameters(step, 2000), 32)[:, 0]
    blocks = hidden.view(2000, 4, 8, 4, 8).permute(0, 1, 3, 2, 4).flatten(3)
    assert torch.equal(blocks.any(3), blocks.all(3))
    share = blocks[..., 0].float()
    assert (share.mean(0) - 0.3).abs().max() < 5 * (0.21 / 2000) ** 0.5
    assert abs(float(((share[:, 0, 0] - 0.3) * (share[:, 0, 1] - 0.3)).mean())) < 5 * 0.21 / 2000**0.5


def test_patches_are_put_where_their_order_says_and_the_order_is_the_label():
    images = photos(60, 20)
    step = V.PatchShuffle(grid=3)
    x, _ = drawn(V.View((step,)), images)
    steps = engine.parameters(V.View((step,)), V.Draw(7, 0, 0, torch.arange(60)), torch.full((60, 2), 20), 20)
    order = steps[0][1]["order"]
    assert torch.equal(order.sort(1)[0], torch.arange(9).expand(60, 9))
    torch.testing.assert_close(x[:, :, 18:], images[:, :, 18:] / 255, atol=1e-5, rtol=0)
    for image, found, which in zip(images / 255, x, order.tolist()):
        for place, source in enumerate(which):
            (r, c), (a, b) = divmod(place, 3), divmod(source, 3)
            here = found[:, 6 * r : 6 * r + 6, 6 * c : 6 * c + 6]
            there = image[:, 6 * a : 6 * a + 6, 6 * b : 6 * b + 6]
            torch.testing.assert_close(here, there, atol=1e-5, rtol=0)
    with pytest.raises(TapetumError, match="grid is 3 x 3, and the view has only 2 pixels"):
        step.paint(torch.rand(1, 3, 2, 2), parameters(step, 1))


def test_every_order_of_patches_is_as_likely():
    step = V.PatchShuffle(grid=2)
    order = parameters(step, 24_000)["order"]
    found, counts = order.unique(dim=0, return_counts=True)
    assert [tuple(row) for row in found.tolist()] == list(itertools.permutations(range(4)))
    assert (counts - 1000).square().sum() / 1000 < 55  # chi-squared of 23 degrees: 1 in 5,000
