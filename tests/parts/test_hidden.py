"""What masked methods share: masks of squares, the loss at hidden patches, targets from layers, pictures."""

import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from tapetum import encoders
from tapetum.parts.blocks import inverse_blocks
from tapetum.parts.losses import over_hidden
from tapetum.parts.masks import coarse
from tapetum.parts.painting import painting, unpatchify
from tapetum.parts.predictors import patchify
from tapetum.parts.targets import block_outputs, feedforward_outputs
from tapetum.views import Batch, Draw


def batch_of(count: int) -> Batch:
    return Batch({}, Draw(0, 0, 0, torch.arange(count)))


# ---- masks ----


@pytest.mark.parametrize(("grid", "unit"), [(8, 2), (14, 2), (7, 3), (5, 4), (4, 1)])
def test_coarse_masks_hide_whole_squares(grid, unit):
    side = math.ceil(grid / unit)
    scores = torch.rand(6, side**2, generator=torch.Generator().manual_seed(0))
    hide = coarse(scores, grid, unit, 0.6).view(6, grid, grid)
    for b in range(6):
        chosen = sorted(range(side**2), key=lambda u: float(scores[b, u]))[: int(0.6 * side**2)]
        for y in range(grid):
            for x in range(grid):
                assert hide[b, y, x] == (y // unit * side + x // unit in chosen)


@pytest.mark.parametrize(("grid", "side"), [(14, 3), (8, 3), (6, 2), (4, 3), (5, 1)])
def test_inverse_blocks_show_squares_until_enough_is_shown(grid, side):
    n, batch = grid**2, batch_of(5)
    keep, hide = inverse_blocks(batch, grid, 0.8, side=side, masks=2)
    shown = n - int(0.8 * n)
    assert keep.shape == (10, shown) and hide.shape == (10, n - shown)
    u = batch.random("inverse blocks", (2, 2, n)).flatten(0, 1)
    for i in range(10):
        assert sorted([*keep[i].tolist(), *hide[i].tolist()]) == list(range(n))
        want: list[int] = []
        for centre in sorted(range(n), key=lambda c: float(u[i, 0, c])):
            y, x = divmod(centre, grid)
            reach = range(-(side // 2), side - side // 2)  # of a square of even side, more lies before
            # a patch is covered by the squares whose centres lie around it
            square = [(y - dy) * grid + x - dx for dy in reach for dx in reach
                      if 0 <= y - dy < grid and 0 <= x - dx < grid]  # fmt: skip
            fresh = [p for p in square if p not in want]
            want += sorted(fresh, key=lambda p: float(u[i, 1, p]))[: shown - len(want)]
        assert sorted(keep[i].tolist()) == sorted(want)


@pytest.mark.parametrize(("share", "hidden"), [(0.0, 1), (1.0, 15)])
def test_inverse_blocks_hide_something_and_show_something(share, hidden):
    keep, hide = inverse_blocks(batch_of(3), 4, share)
    assert keep.shape == (3, 16 - hidden) and hide.shape == (3, hidden)


def test_inverse_blocks_depend_on_the_image_alone():
    whole, _ = inverse_blocks(batch_of(6), 8, 0.75, masks=3)
    part, _ = inverse_blocks(Batch({}, Draw(0, 0, 7, torch.arange(4, 6))), 8, 0.75, masks=3)
    assert torch.equal(whole[12:], part)


# ---- the loss ----


ERRORS = [F.l1_loss, F.mse_loss, partial(F.smooth_l1_loss, beta=2.0)]


@pytest.mark.parametrize("error", ERRORS)
def test_the_loss_is_a_mean_over_images_of_means_over_their_hidden_patches(error):
    generator = torch.Generator().manual_seed(0)
    said, target = torch.randn(2, 4, 9, 5, generator=generator, dtype=torch.float64)
    hide = torch.rand(4, 9, generator=generator) < 0.4
    hide[0] = False  # nothing is hidden: it adds nothing
    hide[1] = True
    total = 0.0
    for b in range(1, 4):
        places = hide[b].nonzero()[:, 0].tolist()
        total += sum(float(error(said[b, n], target[b, n])) for n in places) / len(places) / 4
    assert math.isclose(float(over_hidden(error, said[hide], target[hide], hide)), total, rel_tol=1e-12)
    halves = [over_hidden(error, said[i : i + 2][hide[i : i + 2]], target[i : i + 2][hide[i : i + 2]],
                          hide[i : i + 2]) for i in (0, 2)]  # fmt: skip
    assert math.isclose(float(sum(halves)) / 2, total, rel_tol=1e-12)


# ---- targets ----


@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_outputs_of_layers(model):
    torch.manual_seed(0)
    args = {"patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
    encoder = encoders.build(model, 32, **args).double().eval()
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    net = encoder.net
    inputs, outputs = [], []
    hooks = [b.register_forward_pre_hook(lambda _, a: inputs.append(a[0])) for b in net.blocks]
    hooks += [b.register_forward_hook(lambda _, __, out: outputs.append(out)) for b in net.blocks]
    encoder(x)
    for hook in hooks:
        hook.remove()
    want = torch.stack(outputs)[:, :, net.num_prefix_tokens :]
    for top in (1, 2, 9):
        torch.testing.assert_close(block_outputs(encoder, x, top), want[-top:])
        added = feedforward_outputs(encoder, x, top)
        assert added.shape == want[-top:].shape
        if model.startswith("vit"):
            for one, block, before in zip(added.flip(0), net.blocks[::-1], inputs[::-1]):
                middle = before + block.attn(block.norm1(before))
                torch.testing.assert_close(one, block.mlp(block.norm2(middle))[:, 1:])
    assert not [h for b in net.blocks for h in b.mlp._forward_hooks]


# ---- pictures ----


def test_patches_become_an_image_again():
    x = torch.rand(2, 4, 24, 24)
    torch.testing.assert_close(unpatchify(patchify(x, 6), 6), x)


def test_pictures_show_what_was_shown_and_what_was_painted():
    x, hide = torch.rand(2, 3, 4, 4), torch.tensor([[True, False, False, True], [False, True, False, False]])
    found = painting(x, torch.full((2, 4, 12), 1.5), hide, 2)
    assert list(found) == ["image", "shown", "painted"] and found["image"] is x
    for b in range(2):
        for n in range(4):
            y, at = 2 * (n // 2), 2 * (n % 2)
            part = (b, slice(None), slice(y, y + 2), slice(at, at + 2))
            if hide[b, n]:
                assert (found["shown"][part] == 0.5).all() and (found["painted"][part] == 1).all()
            else:
                assert torch.equal(found["shown"][part], x[part])
                assert torch.equal(found["painted"][part], x[part])
