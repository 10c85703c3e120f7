"""Masked methods against slow, independent writings of their papers' equations, in float64."""

import math

import numpy as np
import pytest
import torch
from skimage import feature
from torch.nn import functional as F

from small_methods import prepared
from tapetum import encoders
from tapetum.base.errors import TapetumError
from tapetum.methods import find, names
from tapetum.parts.blocks import blocks, inverse_blocks
from tapetum.parts.state import Frozen
from tapetum.train import check, sandbox, setup

NEW = ("simmim", "maskfeat", "data2vec", "data2vec2", "dbot", "beit")
TOKENS = [name for name in names() if find(name).needs == "tokens"]


def ready(name, **settings):
    """A small method in float64, a batch with pixels in float64, the grid's side and the patch's."""
    method, batch = prepared(name, **settings)
    batch["x"] = batch["x"].double()
    return method, batch, method.encoder.grid, method.encoder.patch


def patch_at(image, n, grid, patch):
    """The pixels [C, p, p] of one patch."""
    y, x = patch * (n // grid), patch * (n % grid)
    return image[:, y : y + patch, x : x + patch]


def linear(head, x):
    return x @ head.weight.T + head.bias


def standard(x, axis=-1):
    """Mean 0 and variance 1 along an axis."""
    spread = (x.var(axis, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return (x - x.mean(axis, keepdim=True)) / spread


def over_images(hide, error):
    """The mean over images of the mean of error(b, n) over their hidden patches."""
    means = []
    for b in range(len(hide)):
        places = hide[b].nonzero()[:, 0].tolist()
        means.append(sum(error(b, n) for n in places) / len(places))
    return sum(means) / len(means)


# ---- SimMIM ----


@pytest.mark.parametrize("unit", [1, 2])
def test_simmim(unit):
    method, batch, grid, patch = ready("simmim", unit=unit)
    side = grid // unit
    scores = batch.random("mask", (side**2,))
    hide = torch.zeros(len(batch), grid**2, dtype=torch.bool)
    for b in range(len(batch)):
        chosen = sorted(range(side**2), key=lambda u: float(scores[b, u]))[: int(0.6 * side**2)]
        for n in range(grid**2):
            hide[b, n] = n // grid // unit * side + n % grid // unit in chosen
    painted = linear(method.head, method.encoder.tokens(batch["x"], hide=hide))

    def error(b, n):
        want = patch_at(batch["x"][b], n, grid, patch).flatten()
        return sum(abs(p - w) for p, w in zip(painted[b, n].tolist(), want.tolist())) / len(want)

    assert math.isclose(float(method.loss(batch, 0.0)["loss"]), over_images(hide, error), rel_tol=1e-9)


@pytest.mark.parametrize("name", ["simmim", "maskfeat", "data2vec", "beit"])
def test_the_encoder_never_sees_what_is_behind_a_blank(name, monkeypatch):
    """Of the hidden patches' pixels only the targets depend, which none of these computes from the tokens."""
    method, batch, grid, patch = ready(name)
    features, given = method.encoder.features, []

    def recorded(x, **asked):
        given.append((asked["hide"], features(x, **asked).tokens))
        return features(x, **asked)

    monkeypatch.setattr(method.encoder, "features", recorded)
    method.loss(batch, 0.5)
    ((hide, before),) = given
    assert hide.any(1).all() and not hide.all(1).any()
    where = hide.view(-1, 1, grid, grid).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    batch["x"] = torch.where(where, torch.rand_like(batch["x"]), batch["x"])
    method.loss(batch, 0.5)
    torch.testing.assert_close(given[1][1], before)


def test_simmims_squares_are_smaller_than_the_grid():
    with pytest.raises(TapetumError, match=r"method\.unit is 4; it must be less than 4"):
        prepared("simmim", unit=4)


# ---- MaskFeat ----


@pytest.mark.parametrize(("cells", "bins"), [(2, 9), (1, 6)])
def test_maskfeat_of_histograms(cells, bins):
    method, batch, grid, patch = ready("maskfeat", cells=cells, bins=bins)
    hide = blocks(batch, grid, 0.4)
    said = linear(method.head, method.encoder.tokens(batch["x"], hide=hide))
    side = patch // cells
    shape = {"pixels_per_cell": (side, side), "cells_per_block": (1, 1), "feature_vector": False}
    images = batch["x"].numpy()
    found = np.array([[feature.hog(c, bins, block_norm="L2", **shape) for c in image] for image in images])
    found = found[..., 0, 0, :]  # [B, C, rows, columns, bins]

    def error(b, n):
        y, x = cells * (n // grid), cells * (n % grid)
        want = found[b, :, y : y + cells, x : x + cells].transpose(0, 3, 1, 2).flatten()
        return float(np.square(said[b, n].detach().numpy() - want).mean())

    assert math.isclose(float(method.loss(batch, 0.0)["loss"]), over_images(hide, error), rel_tol=1e-6)


@pytest.mark.parametrize("needs", ["tokens", "maps"])
def test_maskfeat_of_another_networks_features(needs):
    teacher = sandbox.small_encoder(needs, seed=5)
    method, batch, grid, _ = ready("maskfeat", teacher=teacher)
    assert isinstance(method.teacher, Frozen)
    hide = blocks(batch, grid, 0.4)
    said = linear(method.head, method.encoder.tokens(batch["x"], hide=hide))
    seen = teacher.double().eval().maps(batch["x"])
    if seen.shape[-1] != grid:
        assert needs == "maps"
        seen = F.interpolate(seen, (grid, grid), mode="bilinear", antialias=True)

    def error(b, n):
        want = seen[b, :, n // grid, n % grid]
        return float((said[b, n] / said[b, n].norm() - want / want.norm()).square().sum())

    assert math.isclose(float(method.loss(batch, 0.0)["loss"]), over_images(hide, error), rel_tol=1e-9)


def test_maskfeats_cells_divide_the_patch():
    with pytest.raises(TapetumError, match=r"method\.cells is 3; it must divide the patch, 8 pixels"):
        prepared("maskfeat", cells=3)


def test_maskfeats_teacher_may_be_on_another_device():
    method, _ = prepared("maskfeat", teacher=sandbox.small_encoder("maps", seed=5).to("meta"))
    assert method.head.out_features == 64


# ---- data2vec ----


def blocks_of(net, x):
    """What a plain ViT's blocks give and what their feed-forward parts add, by hand: [B, N, D] each."""
    x = net.norm_pre(net._pos_embed(net.patch_embed(x)))
    given, added = [], []
    for block in net.blocks:
        x = x + block.attn(block.norm1(x))
        added.append(block.mlp(block.norm2(x))[:, 1:])
        x = x + block.mlp(block.norm2(x))
        given.append(x[:, 1:])
    return given, added


def normalised(encoder, x):
    return (x - encoder.mean) / encoder.std


@pytest.mark.parametrize("layers", [1, 6])
def test_data2vec(layers):
    method, batch, grid, _ = ready("data2vec", layers=layers, beta=0.5, momentum=0.5)
    sandbox.train(method, 2)
    hide = blocks(batch, grid, 0.6)
    said = linear(method.head, method.encoder.tokens(batch["x"], hide=hide))
    teacher = method.teacher.chain[0]
    assert method.product() is teacher
    given, _ = blocks_of(teacher.net, normalised(teacher, batch["x"]))
    assert len(given) == 2
    target = sum(standard(layer) for layer in given[-layers:]) / len(given[-layers:])

    def error(b, n):
        gaps = (said[b, n] - target[b, n]).abs().tolist()
        return sum(g * g / 2 / 0.5 if g < 0.5 else g - 0.5 / 2 for g in gaps) / len(gaps)

    assert math.isclose(float(method.loss(batch, 0.0)["loss"]), over_images(hide, error), rel_tol=1e-9)


@pytest.mark.parametrize(("name", "tau"), [("data2vec", 0.9998), ("data2vec2", 0.9998 + 0.00019 / 2)])
def test_data2vecs_teacher_follows_the_schedule_of_the_paper(name, tau):
    method, _, _, _ = ready(name)
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    method.after_step(0.27 / 2, {})
    for old, now, new in zip(before, method.teacher.parameters(), method.encoder.parameters(), strict=True):
        torch.testing.assert_close(now, tau * old + (1 - tau) * new)


def test_data2vec2():
    method, batch, grid, _ = ready("data2vec2", masks=3, layers=1, momentum=0.5, image_weight=0.3)
    sandbox.train(method, 2)
    teacher = method.teacher.chain[0]
    assert method.product() is teacher
    _, added = blocks_of(teacher.net, normalised(teacher, batch["x"]))
    target = standard(standard(added[-1], 1))  # of one layer: over the patches, then over the features
    keep, hide = inverse_blocks(batch, grid, 0.8, masks=3)
    assert keep.shape == (3 * len(batch), 4) and hide.shape == (3 * len(batch), 12)
    noise = (batch.random("noise", tuple(target.shape[1:]), per="batch").double() - 0.5) * 0.02 * 3**0.5
    assert math.isclose(float(noise.std()), 0.01, rel_tol=0.1)
    patches, images = 0.0, 0.0
    for i in range(len(keep)):
        b = i // 3
        seen = method.encoder.features(batch["x"][b : b + 1], keep=keep[i : i + 1])
        tokens = noise.clone()
        for at, token in zip(keep[i].tolist(), seen.tokens[0]):
            tokens[at] = token
        said = method.decoder(tokens[None])[0]
        gaps = [(said[n] - target[b, n]).square().mean() for n in hide[i].tolist()]
        patches += float(sum(gaps)) / len(gaps) / len(keep)
        images += float((seen.vector[0] - target[b].mean(0)).square().mean()) / len(keep)
    out = method.loss(batch, 0.0)
    assert math.isclose(float(out["patch_loss"]), patches, rel_tol=1e-6)  # the noise is in float32
    assert math.isclose(float(out["image_loss"]), images, rel_tol=1e-9)
    assert math.isclose(float(out["loss"]), patches + 0.3 * images, rel_tol=1e-6)


def test_data2vec2_averages_layers_before_the_last_norm():
    method, batch, _, _ = ready("data2vec2", masks=1, layers=2, image_weight=1.0)
    teacher = method.teacher.chain[0]
    _, added = blocks_of(teacher.net, normalised(teacher, batch["x"]))
    target = standard((standard(added[0], 1) + standard(added[1], 1)) / 2)
    keep, _ = inverse_blocks(batch, 4, 0.8)
    vector = method.encoder.features(batch["x"], keep=keep).vector
    want = sum(float((v - y.mean(0)).square().mean()) for v, y in zip(vector, target)) / len(batch)
    assert math.isclose(float(method.loss(batch, 0.0)["image_loss"]), want, rel_tol=1e-9)


# ---- dBOT ----


def test_dbot():
    method, batch, grid, _ = ready("dbot", beta=0.5)
    sandbox.train(method, 4)  # a second stage with a teacher of its own
    order = batch.random("mask", (grid**2,)).argsort(1)
    hide, keep = order[:, :12], order[:, 12:]
    said = method.decoder(method.encoder.tokens(batch["x"], keep=keep), keep, hide)
    target = standard(method.teacher.chain[0].tokens(batch["x"]))
    total = 0.0
    for b in range(len(batch)):
        for m, n in enumerate(hide[b].tolist()):
            gaps = (said[b, m] - target[b, n]).abs().tolist()
            total += sum(g * g / 2 / 0.5 if g < 0.5 else g - 0.5 / 2 for g in gaps) / len(gaps)
    loss = float(method.loss(batch, 0.0)["loss"])
    assert math.isclose(loss, total / len(batch) / hide.shape[1], rel_tol=1e-9)


def test_dbots_student_becomes_the_teacher_and_begins_anew():
    method, _, _, _ = ready("dbot", stages=3)
    learning = [*method.encoder.parameters(), *method.decoder.parameters()]
    first = [p.clone() for p in learning]

    def learn():
        with torch.no_grad():
            for p in learning:
                p.add_(torch.randn_like(p))
        return [p.clone() for p in method.encoder.parameters()]

    def same(some, others):
        return all(torch.equal(a, b) for a, b in zip(some, others, strict=True))

    assert same(method.teacher.parameters(), method.encoder.parameters())
    learnt = learn()
    method.after_step(0.3, {})
    assert not same(method.teacher.parameters(), learnt) and same(method.encoder.parameters(), learnt)
    method.after_step(0.34, {})
    assert same(method.teacher.parameters(), learnt) and same(learning, first)
    learnt = learn()
    method.after_step(0.5, {})
    assert same(method.encoder.parameters(), learnt)  # once a stage
    method.after_step(0.67, {})
    assert same(method.teacher.parameters(), learnt) and same(learning, first)
    learnt = learn()
    method.after_step(1.0, {})
    assert same(method.product().parameters(), learnt)  # the last student stays


def test_dbots_fresh_student_warms_up():
    ((_, rate),) = ready("dbot", stages=2)[0].rates
    assert [rate(t) for t in (0.0, 0.1, 0.49, 0.5)] == [1, 1, 1, 0]
    assert math.isclose(rate(0.5 + 0.0125), 0.5) and rate(0.53) == rate(1 - 1e-9) == 1


# ---- BEiT ----


def slow_codes(tokeniser, x):
    """Codes [B, N] as lists, and the digits [B, N, L], by hand."""
    z = tokeniser.down(4 * F.unfold(x, tokeniser.patch, stride=tokeniser.patch).mT - 2)
    levels = tokeniser.levels.tolist()
    digits = [
        [[round((k - 1) / (1 + math.exp(-v))) for v, k in zip(place, levels)] for place in image]
        for image in z.tolist()
    ]
    worth = [math.prod(levels[:i]) for i in range(len(levels))]
    codes = [[sum(d * w for d, w in zip(place, worth)) for place in image] for image in digits]
    return codes, torch.tensor(digits, dtype=x.dtype), levels


def test_beit_first_learns_codes():
    method, batch, grid, patch = ready("beit", first=0.2)
    out = method.loss(batch, 0.19)
    codes, digits, levels = slow_codes(method.tokeniser, batch["x"])
    drawn = (method.tokeniser.up(2 * digits / (torch.tensor(levels) - 1) - 1) + 2) / 4
    total = 0.0
    for b in range(len(batch)):
        for n in range(grid**2):
            want = patch_at(batch["x"][b], n, grid, patch).flatten()
            total += float((drawn[b, n] - want).square().mean()) / len(batch) / grid**2
    assert math.isclose(float(out["drawn"]), total, rel_tol=1e-9)
    assert math.isclose(float(out["loss"]), total + math.log(8 * 8 * 8 * 4 * 4), rel_tol=1e-9)
    flat = [code for image in codes for code in image]
    entropy = -sum(flat.count(c) / len(flat) * math.log(flat.count(c) / len(flat)) for c in set(flat))
    assert math.isclose(float(out["codes_used"]), math.exp(entropy) / 8192, rel_tol=1e-5)


def test_beit_then_names_the_codes_of_hidden_patches():
    method, batch, grid, _ = ready("beit", first=0.2, levels=(4, 3, 2))
    codes, _, _ = slow_codes(method.tokeniser, batch["x"])
    hide = blocks(batch, grid, 0.4)
    named = linear(method.head, method.encoder.tokens(batch["x"], hide=hide))
    assert named.shape[-1] == 24

    def error(b, n):
        scores = [math.exp(s) for s in named[b, n].tolist()]
        return -math.log(scores[codes[b][n]] / sum(scores))

    assert math.isclose(float(method.loss(batch, 0.2)["loss"]), over_images(hide, error), rel_tol=1e-9)


@pytest.mark.parametrize("first", [0.0, 1.0])
def test_beit_learns_both_its_codes_and_their_names(first):
    with pytest.raises(TapetumError, match=r"first is .* must be a number from 0\.01 to 0\.99"):
        prepared("beit", first=first)


def test_beits_parts_learn_one_after_the_other():
    method, batch, _, _ = ready("beit", first=0.2)
    parts = {True: method.tokeniser, False: method.encoder}
    for t, tokenises in ((0.19, True), (0.2, False)):
        method.zero_grad(set_to_none=True)
        method.loss(batch, t)["loss"].backward()
        assert all(p.grad is not None for p in parts[tokenises].parameters())
        assert all(p.grad is None for p in parts[not tokenises].parameters())
    (pattern, codes), (_, rest) = method.rates
    assert pattern == r"^tokeniser\."
    assert [codes(t) for t in (0.0, 0.19, 0.2, 1.0)] == [1, 1, 0, 0]
    assert [rest(t) for t in (0.0, 0.2, 0.25, 1.0)] == pytest.approx([0, 0, 1, 1])
    assert math.isclose(rest(0.225), 0.5)


# ---- what they paint ----


@pytest.mark.parametrize("name", ["mae", "simmim", "beit"])
def test_pictures(name):
    method, batch, grid, patch = ready(name)
    with torch.no_grad():
        found = method.paint(batch)
    assert list(found) == ["image", "shown", "painted"]
    hidden = 0
    for b in range(len(batch)):
        for n in range(grid**2):
            own, shown, painted = (patch_at(x[b], n, grid, patch) for x in found.values())
            if torch.equal(shown, own):
                assert torch.equal(painted, own)
            else:
                hidden += 1
                assert (shown == 0.5).all() and not torch.equal(painted, own)
                assert painted.min() >= 0 and painted.max() <= 1
    share = {"mae": 0.75, "simmim": 0.5, "beit": 0.4}[name]  # SimMIM: two of four squares
    assert hidden / len(batch) / grid**2 == pytest.approx(share, abs=0.15)


@pytest.mark.parametrize("normalise", [True, False])
def test_a_perfect_mae_paints_the_image(normalise, monkeypatch):
    method, batch, _, patch = ready("mae", normalise=normalise)
    patches = F.unfold(batch["x"], patch, stride=patch).mT
    said = standard(patches) if normalise else patches
    perfect = lambda seen, keep, hide: said.gather(1, hide[..., None].expand(-1, -1, said.shape[-1]))  # noqa: E731
    monkeypatch.setattr(method.decoder, "forward", perfect)
    found = method.paint(batch)
    torch.testing.assert_close(found["painted"], batch["x"], rtol=0, atol=1e-2)
    assert (found["shown"] == 0.5).double().mean() > 0.7


# ---- all ----


@pytest.mark.parametrize("name", NEW)
def test_they_take_vits_without_class_token(name):
    args = {"patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2}
    encoder = encoders.build(
        "vit_tiny_patch16_224", 20, class_token=False, global_pool="avg", in_chans=2, **args
    )
    small = {"width": 32, "depth": 1} if name in ("data2vec2", "dbot", "beit") else {}
    method = setup.build_method(find(name), encoder, sandbox.source(), 20, small)
    batch = sandbox.one_batch(method)
    batch["x"] = torch.rand(len(batch), 2, 20, 20)
    assert method.loss(batch, 0.7)["loss"].isfinite()


@pytest.mark.parametrize("name", [*TOKENS, "cim"])
def test_the_loss_trains_what_is_exported(name, monkeypatch):
    """Where an image's vector is the class token, the loss reaches what the last norm gives of it."""
    small = sandbox.small_encoder
    monkeypatch.setattr(sandbox, "small_encoder", lambda needs, seed=0: small("tokens", seed))
    method, batch = prepared(name)
    pooling, given = method.product().net.global_pool, []

    def keep(module, args, out):
        if out.requires_grad:
            out.retain_grad()
            given.append(out)

    method.encoder.net.norm.register_forward_hook(keep)
    for t in (0.0, 0.5, 1.0):
        method.loss(batch, t)["loss"].backward()
    reached = any(y.grad is not None and y.grad[:, 0].any() for y in given)
    assert reached if pooling == "token" else pooling == "avg"


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("name", [*TOKENS, "cim", "cnn_jepa", "spark"])
def test_images_of_one_and_of_four_channels(name, channels, monkeypatch):
    vit = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    nets = {
        "tokens": ("vit_tiny_patch16_224", vit),
        "maps": ("resnet10_w32", {"channels": (8, 16, 32, 64)}),
    }

    def small(needs, seed=0):
        model, args = nets[needs]
        return encoders.build(model, 32, in_chans=channels, **args)

    def recoloured(views):
        if isinstance(views, list):
            return [recoloured(x) for x in views]
        return torch.rand(len(views), channels, *views.shape[2:])

    monkeypatch.setattr(sandbox, "small_encoder", small)
    method = sandbox.build(find(name)).train()
    batch = sandbox.one_batch(method)
    for view in method.views:
        batch[view] = recoloured(batch[view])
    loss = method.loss(batch, 0.7)["loss"]
    loss.backward()
    first = next(m for m in method.encoder.modules() if isinstance(m, torch.nn.Conv2d))
    assert loss.isfinite() and first.weight.shape[1] == channels and first.weight.grad.any()


class Unstopped(find("data2vec")):
    """data2vec whose student is its own teacher, without norms, and the gradient flows through both."""

    def loss(self, batch, t):
        hide = blocks(batch, self.encoder.grid, self.hidden)
        said = self.head(self.encoder.tokens(batch["x"], hide=hide)[hide])
        target = self.encoder.features(batch["x"], layers=(1,)).layers[0][:, 1:]
        return {"loss": (said - target[hide]).square().mean()}

    def product(self):
        return self.encoder


def test_without_stop_gradient_and_norms_data2vec_collapses():
    with pytest.raises(check.Broken, match="collapse"):
        check.training_learns(Unstopped)
    check.training_learns(find("data2vec"))
