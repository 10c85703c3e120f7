"""Masked ConvNets against slow, independent writings of their equations."""

import math

import pytest
import torch

from small_methods import prepared, train_apart
from tapetum import encoders
from tapetum.base.errors import TapetumError
from tapetum.methods import find
from tapetum.parts.correlate import Correlation
from tapetum.parts.jepa_masks import hidden_places, target_blocks
from tapetum.parts.sparse import enlarged, recorded, sparse
from tapetum.train import sandbox, setup
from tapetum.views import nest


def built(name, encoder, **settings):
    method = setup.build_method(find(name), encoder, sandbox.source(), 32, settings)
    return method.train(), sandbox.one_batch(method)


def with_convnext(name, **settings):
    torch.manual_seed(0)
    return built(name, encoders.build("convnext_mini", 32, patch_size=1, dims=(8, 16, 24, 32)), **settings)


@pytest.mark.parametrize("normalise", [True, False])
def test_spark(normalise):
    method, batch = prepared("spark", normalise=normalise)
    loss = method.loss(batch, 0.0)["loss"]
    x, grid, unit = batch["x"], 2, 16  # the small ResNet ends with four places
    order = batch.random("mask", (4,)).argsort(1)
    hide = order[:, : int(0.6 * 4)]
    shown = torch.ones(len(x), 1, grid, grid, dtype=torch.bool)
    for b, places in enumerate(hide.tolist()):
        for at in places:
            shown[b, 0, at // grid, at % grid] = False
    stages = ["layer1", "layer2", "layer3", "layer4"]
    with sparse(method.encoder.net, shown), recorded(method.encoder.net, stages) as maps:
        method.encoder(x)
    decoder, y = method.decoder, 0.0
    for up, side, name in zip(decoder.up, (2, 4, 8, 16), reversed(stages)):
        blank = decoder.blank[str(side)].view(1, -1, 1, 1)
        there = enlarged(shown, side).double()
        y = up(y + decoder.enter[str(side)](maps[name] * there + blank * (1 - there)))
    painted = decoder.leave(y)
    assert painted.shape == x.shape
    total = 0.0
    for b, places in enumerate(hide.tolist()):
        for at in places:
            top, left = unit * (at // grid), unit * (at % grid)
            said, want = (z[b, :, top : top + unit, left : left + unit].double() for z in (painted, x))
            if normalise:
                want = (want - want.mean()) / (want.var(unbiased=False) + 1e-6).sqrt()
            total += float((said - want).square().mean()) / hide.numel()
    assert math.isclose(float(loss), total, rel_tol=1e-6)


def test_spark_never_sees_what_it_paints():
    method, batch = prepared("spark", normalise=False)
    method.encoder.eval()
    seen = []
    method.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    hide = batch.random("mask", (4,)).argsort(1)[:, :2]
    shown = torch.ones(len(batch), 4, dtype=torch.bool).scatter(1, hide, False).view(-1, 1, 2, 2)
    method.loss(batch, 0.0)
    batch["x"] = torch.where(enlarged(shown, 32), batch["x"], torch.rand_like(batch["x"]))
    method.loss(batch, 0.0)
    for one, two in zip(*seen):
        there = enlarged(shown, one.shape[-1])
        torch.testing.assert_close(one * there, two * there)


def hidden(method, batch):
    targets = target_blocks(batch, method.grid, method.targets, method.scale, method.ratio)
    return hidden_places(batch, targets, method.grid, method.blocks, method.hidden)


def test_cnn_jepa():
    method, batch = prepared("cnn_jepa")
    train_apart(method)
    loss = method.loss(batch, 0.0)["loss"]
    x, hide = batch["x"], hidden(method, batch)
    with sparse(method.encoder.net, ~hide):
        seen = method.encoder.maps(x)
    for b, image in enumerate(hide[:, 0]):
        for row in range(2):
            for column in range(2):
                if image[row, column]:
                    seen[b, :, row, column] = method.blank
    said, target = method.predictor(seen), method.teacher.chain[0].maps(x)
    total = 0.0
    for b, image in enumerate(hide[:, 0]):
        gaps = []
        for row, column in image.nonzero().tolist():
            p, z = said[b, :, row, column], target[b, :, row, column]
            gaps.append(float((p / p.norm() - z / z.norm()).square().sum()))
        total += sum(gaps) / len(gaps) / len(batch)
    assert math.isclose(float(loss), total, rel_tol=1e-6)


def test_cnn_jepa_hides_blocks_in_three_images_of_four():
    encoder = encoders.build("resnet10_w32", 64, channels=(8, 8, 8, 8))
    method, batch = built("cnn_jepa", encoder, scale=(0.4, 0.4), ratio=(1.0, 1.0), targets=1)
    hide = hidden(method, batch).flatten(1)
    chosen = batch.random("in blocks", (1,))[:, 0]
    assert method.grid == 4 and 8 < int((chosen < 0.75).sum()) < 16
    for image, in_blocks in zip(hide.view(-1, 4, 4), (chosen < 0.75).tolist()):
        rows, columns = image.any(1).nonzero(), image.any(0).nonzero()
        if in_blocks:
            assert image.sum() == 9 and len(rows) == len(columns) == 3
        else:
            assert image.sum() == int(0.6 * 16)


def slow_mask(context, piece, side):
    """Which of a view's pixels [side, side] lie inside another view of the same image."""
    back = torch.linalg.inv(piece.double())
    mask = torch.zeros(side, side, dtype=torch.bool)
    for row in range(side):
        for column in range(side):
            at = torch.tensor([(column + 0.5) / side, (row + 0.5) / side, 1.0]).double()
            x, y, _ = (back @ context.double() @ at).tolist()
            mask[row, column] = 0 <= x <= 1 and 0 <= y <= 1
    return mask


def test_cim():
    method, batch = prepared("cim", pieces=2)
    train_apart(method)
    loss = method.loss(batch, 0.0)["loss"]
    x = batch["context"]
    context = method.teacher.chain[0].maps(x)
    pieces = [method.encoder.maps(torch.cat(batch["pieces"]))[k * len(batch) :][: len(batch)] for k in (0, 1)]
    total, shares = 0.0, []
    for k in (0, 1):
        logits = method.correlation(context, pieces[k], 32)  # [B, 32, 32]
        for b in range(len(batch)):
            true = slow_mask(batch.geometry["context"][b], batch.geometry["pieces"][k][b], 32)
            p = 1 / (1 + (-logits[b]).exp())
            total -= float(torch.where(true, p.log(), (1 - p).log()).mean()) / (2 * len(batch))
            shares.append(float(true.double().mean()))
    assert math.isclose(float(loss), total, rel_tol=1e-6)
    assert 0.05 < sum(shares) / len(shares) < 0.6 and len(set(shares)) > 10


def test_correlation_is_one_cross_attention():
    torch.manual_seed(1)
    part = Correlation(64, 3, 32).double()
    assert dict(part.named_buffers())["place"].shape == (9, 32)  # in full precision whatever the maps'
    torch.nn.init.normal_(part.leave[1].weight)
    context, piece = torch.randn(2, 64, 3, 3).double(), torch.randn(2, 64, 2, 2).double()
    said = part(context, piece, 3)  # not enlarged
    angle = [1 / 10_000 ** (k / 8) for k in range(8)]
    heads, width = part.cross.num_heads, 32
    for b in range(2):
        seen = part.piece(part.enter(piece[b].flatten(1).T))
        w, bias = part.cross.in_proj_weight, part.cross.in_proj_bias
        for at in range(9):
            place = [f(v * a) for v in (at % 3, at // 3) for f in (math.sin, math.cos) for a in angle]
            token = part.enter(context[b, :, at // 3, at % 3]) + torch.tensor(place).double()
            q = part.before(token) @ w[:width].T + bias[:width]
            k = seen @ w[width : 2 * width].T + bias[width : 2 * width]
            v = seen @ w[2 * width :].T + bias[2 * width :]
            assert heads == 1
            weight = (k @ q / math.sqrt(width)).softmax(0)
            token = token + part.cross.out_proj(weight @ v)
            token = token + part.mlp(token)
            torch.testing.assert_close(said[b, at // 3, at % 3], part.leave(token)[0], rtol=1e-5, atol=1e-5)


def test_cims_teacher_follows_and_the_student_is_exported():
    method, _ = prepared("cim")
    assert method.product() is method.encoder
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    method.after_step(0.5, {})
    for old, now, new in zip(before, method.teacher.parameters(), method.encoder.parameters()):
        torch.testing.assert_close(now, 0.995 * old + 0.005 * new)


@pytest.mark.parametrize(
    "name, settings", [("spark", {"width": 16}), ("cnn_jepa", {}), ("cim", {"width": 32})]
)
def test_on_convnexts(name, settings):
    method, batch = with_convnext(name, **settings)
    method.loss(batch, 0.0)["loss"].backward()
    idle = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert set(idle) <= {"encoder.net.head.norm.weight", "encoder.net.head.norm.bias"}  # after the pooling


def test_cim_on_a_vit():
    method, _ = built("cim", sandbox.small_encoder("tokens"), width=32, pieces=2)
    method.views = nest.whole_patches(method.views, 32, 8)
    loss = method.loss(sandbox.one_batch(method), 0.0)["loss"]
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in method.encoder.parameters())


@pytest.mark.parametrize("name", ["spark", "cnn_jepa"])
@pytest.mark.parametrize(
    "encoder, args, said",
    [
        ("vit_tiny_patch16_224", {"depth": 1}, "only ConvNets"),
        ("resnet18", {"stem": "timm", "layers": (1, 1, 1, 1)}, "leaves one place"),
    ],
)
def test_encoders_and_images_that_do_not_fit(name, encoder, args, said):
    with pytest.raises(TapetumError, match=said):
        built(name, encoders.build(encoder, 32, **args))


@pytest.mark.parametrize("hidden, count", [(0.0, 1), (0.6, 2), (1.0, 3)])
def test_something_is_hidden_and_something_shown(hidden, count):
    method, batch = prepared("spark", hidden=hidden)
    taken = []
    method.decoder.register_forward_pre_hook(lambda _, given: taken.append(given[1]))
    assert method.loss(batch, 0.0)["loss"].isfinite()
    assert (taken[0].flatten(1).sum(1) == 4 - count).all()
