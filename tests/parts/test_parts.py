"""Memory, masks, predictors, mixing and schedules against what they promise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from tapetum import encoders
from tapetum.base.errors import TapetumError
from tapetum.parts import masks, mixing
from tapetum.parts.correlate import Correlation
from tapetum.parts.heads import Prototypes, mlp
from tapetum.parts.predictors import TokenPredictor, patchify, sincos
from tapetum.parts.schedule import Ramp, constant, parse
from tapetum.parts.state import EMA, Frozen, Queue
from tapetum.train import sync_norm


def test_ema_is_the_moving_average():
    fast = nn.Linear(2, 2)
    slow, before = EMA(fast), fast.weight.detach().clone()
    with torch.no_grad():
        fast.weight.add_(1.0)
    slow.follow(0.9, fast)
    torch.testing.assert_close(slow.chain[0].weight, 0.9 * before + 0.1 * fast.weight)
    assert not any(p.requires_grad for p in slow.parameters())
    with pytest.raises(ValueError, match="tensors"):
        slow.follow(0.9, fast, fast)


def test_an_average_drops_nothing_but_its_batch_norms_see_the_batch():
    slow = EMA(nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3)))
    sync_norm.synchronise(slow)
    dropout, norm = slow.train().chain[0]
    assert norm.training and not dropout.training
    slow.eval()
    assert not norm.training
    args = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "drop_path_rate": 0.5}
    vit = encoders.build("vit_tiny_patch16_224", 32, **args)
    x, slow = torch.rand(16, 3, 32, 32), EMA(vit).train()
    assert torch.equal(slow(x), slow(x)) and not torch.equal(vit.train()(x), vit(x))


def test_frozen_stays_in_eval_and_apart():
    original = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))
    frozen = Frozen(original).train()
    assert not frozen.module[0].training
    with torch.no_grad():
        original[1].weight.zero_()
    assert frozen.module[1].weight.abs().sum() > 0


def test_what_was_frozen_is_restored():
    first, second = nn.Linear(2, 2), nn.BatchNorm1d(2)
    frozen = Frozen(nn.ModuleList([first, second]))
    before = [t.clone() for module in (first, second) for t in module.state_dict().values()]
    with torch.no_grad():
        first.weight.add_(1.0)
        second(torch.randn(4, 2))
    frozen.restore(first, second)
    after = [t for module in (first, second) for t in module.state_dict().values()]
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_queue_forgets_the_oldest(batch):
    queue, pushed = Queue(5, 1), []
    for i in range(0, 12, batch):
        rows = torch.arange(i, i + batch, dtype=torch.float32)[:, None]
        pushed += rows.flatten().tolist()
        queue.push(rows)
    assert sorted(queue.items.flatten().tolist()) == pushed[-5:]


def test_split_covers_every_patch_once():
    keep, hide = masks.split(torch.rand(3, 64), 0.75)
    assert keep.shape == (3, 16)
    assert torch.equal(torch.cat([keep, hide], 1).sort(1)[0], torch.arange(64).expand(3, -1))


@pytest.mark.parametrize(("hidden", "count"), [(0.0, 1), (0.01, 1), (0.5, 2), (0.9, 3), (1.0, 3)])
def test_something_is_hidden_and_something_shown(hidden, count):
    keep, hide = masks.split(torch.rand(3, 4), hidden)
    assert keep.shape == (3, 4 - count) and hide.shape == (3, count)


def test_of_one_patch_nothing_can_be_hidden():
    with pytest.raises(TapetumError, match="single patch nothing can be hidden"):
        masks.split(torch.rand(3, 1), 0.5)
    keep, hide = masks.split(torch.rand(3, 1), 0.5, least=0)
    assert keep.shape == (3, 1) and hide.shape == (3, 0)


def test_patchify_goes_row_by_row_and_take_picks():
    x = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    patches = patchify(x, 2)
    torch.testing.assert_close(patches[1, 1], x[1, :, 0:2, 2:4].flatten())
    torch.testing.assert_close(patches[1, 2], x[1, :, 2:4, 0:2].flatten())
    index = torch.tensor([[3, 0], [1, 1]])
    torch.testing.assert_close(masks.take(patches, index)[1, 0], patches[1, 1])


def test_positions_are_all_different_and_follow_the_formula():
    code = sincos(4, 8)
    assert len({tuple(row.tolist()) for row in code}) == 16
    for at, row in enumerate(code):  # x first, then y
        want = [
            f(v / 10_000 ** (k / 2)) for v in (at % 4, at // 4) for f in (math.sin, math.cos) for k in (0, 1)
        ]
        torch.testing.assert_close(row, torch.tensor(want))


def test_predictor_depends_on_where_it_is_asked_but_not_on_the_order_of_what_is_seen():
    torch.manual_seed(0)
    predictor = TokenPredictor(dim=6, grid=4, width=32, depth=2, out=5).eval()
    seen, keep, wanted = torch.randn(2, 3, 6), torch.tensor([[0, 5, 9]] * 2), torch.tensor([[1, 2]] * 2)
    said = predictor(seen, keep, wanted)
    assert said.shape == (2, 2, 5)
    torch.testing.assert_close(predictor(seen.flip(1), keep.flip(1), wanted), said, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(predictor(seen, keep, wanted.flip(1)), said.flip(1), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(predictor(seen, keep + 1, wanted), said)


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(TapetumError, match=r"method\.width is 100; it must be a multiple of 32\."):
        TokenPredictor(dim=6, grid=4, width=100, depth=1, out=5)
    with pytest.raises(TapetumError, match=r"method\.width is 16; it must be a multiple of 32\."):
        Correlation(dim=6, grid=4, width=16)


def test_mlp_has_no_bias_before_a_norm_and_prototypes_are_cosines():
    assert [m.bias is None for m in mlp(4, 8, 8, 2) if isinstance(m, nn.Linear)] == [True, True, False]
    assert [m.bias is None for m in mlp(4, 8, 2, last_norm=True) if isinstance(m, nn.Linear)] == [True, True]
    head, z = Prototypes(4, 6), torch.randn(3, 4)
    for i in range(3):
        for k in range(6):
            want = torch.dot(z[i], head.weight[k]) / z[i].norm() / head.weight[k].norm()
            torch.testing.assert_close(head(z)[i, k], want)


def test_partner_is_the_same_however_a_batch_is_split():
    x = torch.arange(8)
    assert mixing.partner(x).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
    assert torch.equal(torch.cat([mixing.partner(part) for part in x.split(2)]), mixing.partner(x))
    assert mixing.partner(torch.arange(3)).tolist() == [1, 0, 2]


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0])
def test_beta_has_betas_moments(alpha):
    x = mixing.beta(torch.rand(40_000, 24, generator=torch.Generator().manual_seed(1)), alpha)
    assert abs(float(x.mean()) - 0.5) < 0.01
    assert math.isclose(float(x.var()), 1 / (4 * (2 * alpha + 1)), rel_tol=0.03)
    assert stats.kstest(x[:5000].numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_an_images_share_has_the_same_bits_in_any_batch():
    u = torch.rand(37, 24, generator=torch.Generator().manual_seed(1))
    whole = mixing.beta(u, 0.3)
    assert all(torch.equal(mixing.beta(u[k : k + 1], 0.3), whole[k : k + 1]) for k in range(37))
    assert torch.equal(mixing.beta(u[5:18], 0.3), whole[5:18])


def test_cutmix_takes_the_published_box():
    """As the paper's: sides of sqrt(1 - share) of the image's, around any place, cut at the border."""
    x, side = torch.stack([torch.zeros(1, 40, 40), torch.ones(1, 40, 40)]), 40
    share, place = torch.tensor([0.64, 0.36]), torch.tensor([[0.5, 0.25], [0.9, 0.1]])
    mixed, left = mixing.cutmix(x, share, place)
    for k, (x1, x2, y1, y2) in enumerate(((8, 32, 0, 22), (20, 40, 0, 20))):
        box = torch.zeros(side, side, dtype=torch.bool)
        box[x1:x2, y1:y2] = True  # place is (down, across) here, and evenly drawn
        assert torch.equal(mixed[k, 0] == 1 - k, box)
        assert math.isclose(float(left[k]), 1 - (x2 - x1) * (y2 - y1) / side**2, rel_tol=1e-6)


def test_mixup_and_cutmix_keep_the_share_they_say():
    x = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    share = torch.tensor([0.7, 0.2])
    torch.testing.assert_close(mixing.mixup(x, share).mean((1, 2, 3)), torch.tensor([0.3, 0.2]))
    mixed, left = mixing.cutmix(x, share, torch.tensor([[0.5, 0.5], [0.0, 0.9]]))
    torch.testing.assert_close(mixed.mean((1, 2, 3)), torch.tensor([1 - float(left[0]), float(left[1])]))
    box = mixed[0, 0].nonzero()
    height, width = (box.amax(0) - box.amin(0) + 1).tolist()
    assert len(box) == height * width == round(64 * (1 - float(left[0])))


def test_ramp():
    ramp = Ramp(0.996, 1.0)
    assert (ramp(0), ramp(1)) == (0.996, 1.0)
    assert math.isclose(ramp(0.25), 1 - 0.004 * (math.cos(math.pi * 0.25) + 1) / 2)  # BYOL's own formula
    assert Ramp(0.04, 0.07, 0.1, "linear")(0.05) == pytest.approx(0.055)
    assert Ramp(0.04, 0.07, 0.1, "linear")(0.9) == pytest.approx(0.07)


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.01, 1), st.sampled_from(["cosine", "linear"]))
def test_a_schedule_survives_being_written_down(start, end, until, shape):
    ramp = Ramp(start, end, until, shape)
    again = parse(str(ramp))
    assert all(again(t) == ramp(t) for t in (0, 0.3, 1))


@pytest.mark.parametrize("text", ["0.9->", "a->b", "1 until 0", "1->2 until 3", "1->2 slowly", ""])
def test_a_bad_schedule_is_refused_in_a_sentence(text):
    with pytest.raises(TapetumError, match=r"schedule"):
        parse(text)
    assert parse(3) == constant(3.0)
