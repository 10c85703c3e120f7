"""Joint-embedding prediction and autoregression against slow, independent writings of their equations."""

import math

import pytest
import torch
from lightly.loss.lejepa_loss import LeJEPALoss
from torch.nn import functional as F

from small_methods import prepared, train_apart
from tapetum import encoders
from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.methods import find
from tapetum.methods.predict import ijepa, lejepa, nepa
from tapetum.parts import jepa_masks
from tapetum.parts.sigreg import sigreg
from tapetum.train import check, online, sandbox, setup
from tapetum.views import Batch, Draw, nest


def drawn(count=64, step=0):
    return Batch({}, Draw(seed=0, epoch=0, step=step, index=torch.arange(count)))


@pytest.mark.parametrize(
    "grid, targets, scale", [(14, 4, (0.15, 0.2)), (4, 4, (0.15, 0.2)), (8, 2, (0.3, 0.45))]
)
def test_targets_are_blocks_and_what_is_shown_is_none_of_them(grid, targets, scale):
    sizes = set()
    for step in range(8):
        batch = drawn(step=step)
        wanted = jepa_masks.target_blocks(batch, grid, targets, scale, (0.75, 1.5))
        keep = jepa_masks.context(batch, wanted, grid, (0.85, 1.0))
        assert keep.shape[1] == grid**2 - wanted.shape[1] * wanted.shape[2] > 0
        for mine, shown in zip(wanted, keep):
            rows, columns = mine // grid, mine % grid  # [M, L]
            height, width = (int(line[0].max() - line[0].min()) + 1 for line in (rows, columns))
            sizes.add((height, width))
            assert height * width == wanted.shape[2]
            assert (rows.amax(1) - rows.amin(1) + 1 == height).all()
            assert (columns.amax(1) - columns.amin(1) + 1 == width).all()
            assert all(len(set(block.tolist())) == height * width for block in mine)
            assert mine.min() >= 0 and mine.max() < grid**2
            assert len(set(shown.tolist())) == len(shown)
            assert not set(shown.tolist()) & set(mine.flatten().tolist())
    if grid == 14:
        assert len(sizes) > 1  # drawn anew at each step
        for height, width in sizes:
            assert 0.15 - 0.03 < height * width / grid**2 < 0.2 + 0.03
            assert 0.6 < height / width < 1.8


def test_context_is_taken_from_its_block_first():
    batch = drawn(256)
    wanted = jepa_masks.target_blocks(batch, 14, 1, (0.15, 0.2), (0.75, 1.5))
    keep = jepa_masks.context(batch, wanted, 14, (0.3, 0.3))  # a block of 8 x 8
    within = jepa_masks.placed(batch.random("context", (1, 2)), (8, 8), 14)[:, 0]
    for mine, shown, block in zip(wanted, keep, within):
        assert set(block.tolist()) - set(mine.flatten().tolist()) <= set(shown.tolist())


def test_images_draw_their_own_blocks_and_all_batches_alike():
    whole = jepa_masks.target_blocks(drawn(), 14, 4, (0.15, 0.2), (0.75, 1.5))
    rows = Batch({}, Draw(seed=0, epoch=0, step=0, index=torch.arange(10, 20)))
    assert torch.equal(jepa_masks.target_blocks(rows, 14, 4, (0.15, 0.2), (0.75, 1.5)), whole[10:20])
    assert len({tuple(places.flatten().tolist()) for places in whole}) > 60


def test_a_block_that_leaves_nothing_is_refused():
    with pytest.raises(TapetumError, match="block of 4 x 4 leaves nothing of 4 x 4 patches"):
        jepa_masks.target_blocks(drawn(), 4, 4, (1.0, 1.0), (1.0, 1.0))


@pytest.mark.parametrize("smooth", [False, True])
def test_ijepa(smooth):
    method, batch = prepared("ijepa", smooth=smooth)
    train_apart(method)
    loss = method.loss(batch, 0.0)["loss"]
    grid = method.encoder.grid
    wanted = jepa_masks.target_blocks(batch, grid, 4, (0.15, 0.2), (0.75, 1.5))
    keep = jepa_masks.context(batch, wanted, grid, (0.85, 1.0))
    total, count = 0.0, 0
    for b, x in enumerate(batch["x"]):
        full = method.teacher.chain[0].features(x[None]).tokens[0]  # the whole image
        seen = method.encoder.features(x[None], keep=keep[b : b + 1]).tokens
        for block in wanted[b]:
            said = method.predictor(seen, keep[b : b + 1], block[None])[0]
            for at, p in zip(block.tolist(), said):
                z = (full[at] - full[at].mean()) / (full[at].var(unbiased=False) + 1e-5).sqrt()
                gap = (p - z).abs()
                smoothed = torch.where(gap < 1, gap.square() / 2, gap - 0.5)
                total += float((smoothed if smooth else gap.square()).sum())
                count += len(z)
    assert math.isclose(float(loss), total / count, rel_tol=1e-6)


def slow_epps_pulley(values, reach=5.0, points=17):
    """N * integral of |phi_N(t) - exp(-t^2/2)|^2 exp(-t^2/2), by trapezia, with complex numbers."""
    step, total = 2 * reach / (points - 1), 0.0
    for k in range(points):
        t = -reach + k * step
        mean = sum(complex(math.cos(t * v), math.sin(t * v)) for v in values) / len(values)
        share = 0.5 if k in (0, points - 1) else 1.0
        total += share * step * abs(mean - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2)
    return total * len(values)


def test_sigreg_is_epps_and_pulleys_statistic_along_unit_vectors():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 9, 5, dtype=torch.float64, generator=generator)
    directions = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    want = [slow_epps_pulley((view @ (d / d.norm())).tolist()) for view in z for d in directions.T]
    assert math.isclose(float(sigreg(z, directions)), sum(want) / 6, rel_tol=1e-9)


def test_sigreg_of_one_direction_is_its_closed_form():
    """Over the whole line the integral is a sum of Gaussians, which the 17 points come within 1e-3 of."""
    x = torch.randn(30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pairs = torch.exp(-(x[:, None] - x).square() / 2).mean()
    closed = pairs - 2 * torch.exp(-x.square() / 4).mean() / math.sqrt(2) + 1 / math.sqrt(3)
    closed = math.sqrt(2 * math.pi) * len(x) * float(closed)
    assert math.isclose(float(sigreg(x[None, :, None], torch.ones(1, 1).double())), closed, rel_tol=1e-3)


def test_sigreg_of_gaussian_samples():
    """For standard normal samples the statistic's mean is sqrt(2 pi) (1 - 1 / sqrt(3)) = 1.0595 for any N; it
    grows with N for a shifted, a wider, a collapsed or a uniform sample."""
    z = torch.randn(1, 512, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    along = torch.eye(256, dtype=torch.float64)  # 256 independent samples of 512
    assert abs(float(sigreg(z, along)) - 1.0595) < 0.15
    for spoilt in (z + 0.5, 2 * z, 0 * z, (z > 0).double()):
        assert float(sigreg(spoilt, along)) > 10


def test_lejepa():
    method, batch = prepared("lejepa", directions=7)
    out = method.loss(batch, 0.0)
    large, small = torch.cat(batch["large"]), torch.cat(batch["small"])
    z = method.projector(torch.cat([method.encoder(large), method.encoder(small)]))
    z = z.view(4, len(batch), -1)  # two large views and, in the sandbox, two small ones
    key = random.key(batch.random("directions", (2,), per="batch")[None])
    directions = random.normal(key, (z.shape[2], 7))[0].double()
    assert abs(float(directions.mean())) < 0.5 and 0.7 < float(directions.std()) < 1.3
    normality = sum(
        slow_epps_pulley((view @ (d / d.norm())).tolist()) for view in z for d in directions.T
    ) / (4 * 7)
    prediction = 0.0
    for b in range(len(batch)):
        centre = (z[0, b] + z[1, b]) / 2
        prediction += sum(float((z[v, b] - centre).square().mean()) for v in range(4)) / (4 * len(batch))
    assert math.isclose(float(out["prediction"]), prediction, rel_tol=1e-9)
    assert math.isclose(float(out["normality"]), normality, rel_tol=1e-6)
    assert math.isclose(float(out["loss"]), 0.95 * prediction + 0.05 * normality, rel_tol=1e-6)


def test_lejepa_is_lightlys_with_its_gradient(monkeypatch):
    """lightly integrates from -3 to 3 with 17 points on one side, as the authors' later example does; the
    paper from -5 to 5 with 17 on both."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(5, 8, 6, generator=generator, requires_grad=True)
    directions = torch.randn(6, 10, generator=generator)
    theirs = LeJEPALoss(lambda_param=0.1)
    monkeypatch.setattr(theirs.sigreg, "_generate_unit_vectors", lambda *_: F.normalize(directions, dim=0))
    want = theirs(local_proj=z[2:], global_proj=z[:2])
    prediction = (z - z[:2].mean(0)).square().mean()
    ours = 0.9 * prediction + 0.1 * sigreg(z, directions, reach=3.0, points=33)
    torch.testing.assert_close(ours, want)
    torch.testing.assert_close(*(torch.autograd.grad(loss, z)[0] for loss in (ours, want)))


@pytest.mark.parametrize("needs", ["vector", "tokens"])
@pytest.mark.parametrize("small_crops", [0, 2])
def test_lejepa_on_resnets_and_vits(needs, small_crops):
    small = {"hidden": 32, "dim": 8, "directions": 16, "small_crops": small_crops}
    encoder = sandbox.small_encoder(needs)
    method = setup.build_method(find("lejepa"), encoder, sandbox.source(), 32, small)
    method.views = nest.whole_patches(method.views, 32, 8)
    loss = method.train().loss(sandbox.one_batch(method), 0.0)["loss"]
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in method.parameters())


@pytest.mark.parametrize("class_token", [True, False])
def test_nepa(class_token):
    torch.manual_seed(0)
    args = {} if class_token else {"class_token": False, "global_pool": "avg"}
    encoder = encoders.build(
        "vit_tiny_patch16_224", 32, patch_size=8, embed_dim=32, depth=2, num_heads=2, **args
    )
    method = setup.build_method(find("nepa"), encoder.double(), sandbox.source(), 32, {}).double().train()
    batch = sandbox.one_batch(method)
    loss = method.loss(batch, 0.0)["loss"]
    net, n = encoder.net, encoder.grid**2
    x = (batch["x"] - encoder.mean) / encoder.std
    z = net.patch_embed.proj(x).flatten(2).mT.detach()  # [B, N, D], without places
    features = encoder.features(batch["x"], causal=True)
    total, count = 0.0, 0
    for b in range(len(batch)):
        for at in range(0 if class_token else 1, n):
            said = features.tokens[b, at - 1] if at else features.prefix[b, -1]
            total += 2 - 2 * float(said @ z[b, at] / said.norm() / z[b, at].norm())
            count += 1
    assert math.isclose(float(loss), total / count, rel_tol=1e-9)


def test_nepa_learns_its_embedding_only_as_what_is_seen():
    method, batch = prepared("nepa")
    target = method.encoder.features(batch["x"], causal=True).embedded.detach()
    given = method.encoder.features(batch["x"], causal=True)
    said = torch.cat([given.prefix, given.tokens], 1)[:, :-1]
    want = (2 - 2 * F.cosine_similarity(said, target, dim=2)).mean()
    weight = method.encoder.net.patch_embed.proj.weight
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, weight)[0] for loss in (method.loss(batch, 0.0)["loss"], want))
    )


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_igpt(normalise, prefix):
    method, batch = prepared("igpt", normalise=normalise, prefix=prefix)
    loss = method.loss(batch, 0.0)["loss"]
    grid, patch = method.encoder.grid, method.encoder.patch
    n = grid**2
    shown = [1 + int(u * (n - 1)) if prefix else 1 for u in batch.random("prefix").tolist()]
    assert min(shown) >= 1 and max(shown) <= n - 1 and (len(set(shown)) > 3) == prefix
    tokens = method.encoder.features(batch["x"], causal=torch.tensor(shown)).tokens
    total = 0.0
    for b, first in enumerate(shown):
        for at in range(first, n):
            y, x = patch * (at // grid), patch * (at % grid)
            want = batch["x"][b, :, y : y + patch, x : x + patch].flatten().double()
            if normalise:
                want = (want - want.mean()) / (want.var(unbiased=False) + 1e-6).sqrt()
            gap = method.head(tokens[b, at - 1]) - want
            total += float(gap.square().mean()) / (n - first) / len(batch)
    assert math.isclose(float(loss), total, rel_tol=1e-6)


@torch.no_grad()
def test_igpt_sees_the_prefix_and_nothing_that_it_predicts():
    method, batch = prepared("igpt")
    patch, grid = method.encoder.patch, method.encoder.grid
    shown = torch.full((len(batch),), 6)
    before = method.encoder.features(batch["x"], causal=shown).tokens
    for at in range(grid**2):
        x = batch["x"].clone()
        row, column = patch * (at // grid), patch * (at % grid)
        x[:, :, row : row + patch, column : column + patch] = 0.5
        same = (method.encoder.features(x, causal=shown).tokens - before).abs().amax((0, 2)) < 1e-9
        assert same.tolist() == [at >= 6 and k < at for k in range(grid**2)]


@pytest.mark.parametrize("name", ["ijepa", "cnn_jepa"])
def test_teachers_follow_and_are_exported(name):
    method, _ = prepared(name)
    assert method.product() is method.teacher.chain[0]
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    method.after_step(0.25, {})
    tau = 0.996 + 0.004 * (0.25 if name == "ijepa" else (1 - math.cos(math.pi * 0.25)) / 2)
    for old, now, new in zip(before, method.teacher.parameters(), method.encoder.parameters()):
        torch.testing.assert_close(now, tau * old + (1 - tau) * new)


class Same:
    """No teacher: the network itself, with its gradient."""

    def __init__(self, encoder):
        self.chain = [encoder]

    def follow(self, momentum, encoder):
        pass


class NEPAWithoutStop(nepa.NEPA):
    def loss(self, batch, t):
        features = self.encoder.features(batch["x"], causal=True)
        said = torch.cat([features.prefix, features.tokens], 1)[:, :-1]
        return {"loss": nepa.cosine_distance(said, features.embedded)}


@pytest.mark.parametrize("name", ["ijepa", "lejepa"])
def test_without_its_safeguard_it_collapses(name, monkeypatch):
    monkeypatch.setattr(ijepa, "EMA", Same)
    monkeypatch.setattr(lejepa, "sigreg", lambda z, directions: 0 * z.sum())
    with pytest.raises(check.Broken, match=r"collapse|does not tell images apart"):
        check.training_learns(find(name))


def test_nepas_stopped_gradient_keeps_images_apart():
    """With it directions spread, without it they gather; by the 100 steps of the suite not yet to a half."""
    spreads = []
    for kind in (find("nepa"), NEPAWithoutStop):
        method = sandbox.build(kind)
        before = check.spread(online.embed(method.product(), sandbox.easy_pixels()))
        sandbox.train(method, 150, lr=3e-3)
        spreads.append(check.spread(online.embed(method.product(), sandbox.easy_pixels())) / before)
    assert spreads[0] > 1.5 and spreads[1] < 0.75, spreads
