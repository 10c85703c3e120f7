"""Decorrelation against slow writings of its equations in float64, and against lightly's losses."""

import math
from functools import wraps

import pytest
import torch
from lightly.loss import BarlowTwinsLoss, TiCoLoss, VICRegLoss
from lightly.loss.vicregl_loss import VICRegLLoss
from lightly.loss.wmse_loss import WMSELoss
from torch.nn import functional as F

from small_methods import prepared
from tapetum.methods import find
from tapetum.parts import decorrelation
from tapetum.parts.schedule import constant
from tapetum.train import check, sandbox, setup

NAMES = ("barlow_twins", "vicreg", "tico", "wmse", "vicregl")


def rows(count, *shape, seed=0):
    """`count` tensors of normal numbers that take gradients."""
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=g, requires_grad=True) for _ in range(count)]


def assert_same(ours, theirs, inputs):
    """Two losses have one value and one gradient."""
    torch.testing.assert_close(ours, theirs.squeeze(), rtol=1e-10, atol=0)
    for x, y in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs)):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-12)


def projected(method, x):
    return method.projector(method.encoder(x)).tolist()


# ---- Barlow Twins ----


def test_barlow_twins():
    method, batch = prepared("barlow_twins", redundancy=0.03)
    columns = []
    for x in batch["views"]:
        part = []
        for column in zip(*projected(method, x)):
            mean = sum(column) / len(column)
            spread = math.sqrt(sum((v - mean) ** 2 for v in column) / len(column) + 1e-5)
            part.append([(v - mean) / spread for v in column])
        columns.append(part)
    total = 0.0
    for i, one in enumerate(columns[0]):
        for j, other in enumerate(columns[1]):
            c = sum(a * b for a, b in zip(one, other)) / len(batch)
            total += (1 - c) ** 2 if i == j else 0.03 * c**2
    assert math.isclose(method.loss(batch, 0.0)["loss"].item(), total, rel_tol=1e-9)


def test_barlow_twins_is_lightlys():
    a, b = rows(2, 12, 5)
    assert_same(decorrelation.barlow_twins(a, b, 0.005), BarlowTwinsLoss()(a, b), (a, b))


# ---- VICReg ----


def slow_vicreg(a, b, weights):
    """Of lists of vectors, [B][D]."""
    n, d = len(a), len(a[0])
    attract = sum((x - y) ** 2 for p, q in zip(a, b) for x, y in zip(p, q)) / (n * d)
    spread, apart = 0.0, 0.0
    for z in (a, b):
        means = [sum(column) / n for column in zip(*z)]
        centred = [[x - m for x, m in zip(row, means)] for row in z]
        for i in range(d):
            for j in range(d):
                c = sum(row[i] * row[j] for row in centred) / (n - 1)
                if i == j:
                    spread += max(0.0, 1 - math.sqrt(c + 1e-4)) / d
                else:
                    apart += c**2 / d
    return weights[0] * attract + weights[1] * spread + weights[2] * apart


def test_vicreg():
    method, batch = prepared("vicreg", invariance=20.0, variance=15.0, covariance=3.0)
    want = slow_vicreg(*(projected(method, x) for x in batch["views"]), (20.0, 15.0, 3.0))
    assert math.isclose(method.loss(batch, 0.0)["loss"].item(), want, rel_tol=1e-9)


def test_vicreg_is_lightlys_with_half_the_weight_of_the_variance():
    """lightly follows the authors' code, which halves the sum of the two views' variance terms; the paper's
    Algorithm 1 does not."""
    a, b = rows(2, 12, 5)
    a, b = 0.8 * a, 0.8 * b  # some deviations below 1
    assert_same(decorrelation.vicreg(a, b, (25.0, 12.5, 1.0)), VICRegLoss()(a, b), (a, b))


# ---- TiCo ----


def test_tico_and_its_covariance():
    method, batch = prepared("tico", contrast=5.0)
    sandbox.train(method, 2)  # so that teacher and student differ, and something is remembered
    memory = method.covariance.clone()
    assert memory.trace() > 0.1
    out = method.loss(batch, 0.0)
    z = F.normalize(method.projector(method.encoder(batch["views"][0])), dim=1).detach()
    encoder, head = method.teacher.chain
    target = F.normalize(head(encoder(batch["views"][1])), dim=1)
    now = sum(torch.outer(row, row) for row in z) / len(batch)
    c = 0.9 * memory + 0.1 * now
    total = 0.0
    for row, other in zip(z, target):
        total += float((row - other).square().sum() / 2 + 5.0 * row @ c @ row) / len(batch)
    assert math.isclose(out["loss"].item(), total, rel_tol=1e-9)
    torch.testing.assert_close(method.covariance, memory)

    before = [p.clone() for p in method.teacher.parameters()]
    method.after_step(0.5, out["keep"])
    torch.testing.assert_close(method.covariance, c)
    tau = 1 - (1 - 0.99) * (math.cos(math.pi / 2) + 1) / 2
    learnt = [*method.encoder.parameters(), *method.projector.parameters()]
    for old, now, new in zip(before, method.teacher.parameters(), learnt):
        torch.testing.assert_close(now, tau * old + (1 - tau) * new)


def test_ticos_covariance_is_joined_over_processes():
    method, _ = prepared("tico")
    parts = torch.stack([torch.eye(16), 3 * torch.eye(16)]).double()
    method.after_step(0.0, {"covariance": parts})
    torch.testing.assert_close(method.covariance, 0.2 * torch.eye(16).double())


def test_tico_is_lightlys_over_three_steps():
    theirs = TiCoLoss(beta=0.9, rho=8.0)
    memory = torch.zeros(5, 5, dtype=torch.float64)
    for step in range(3):
        a, b = rows(2, 12, 5, seed=step)
        memory = memory.lerp(decorrelation.second_moment(a), 0.1)
        ours = decorrelation.cosine_distance(a, b) / 2 + 8.0 * decorrelation.along(a, memory)
        assert_same(ours, theirs(a, b), (a, b))


# ---- W-MSE ----


def slow_whitened(z, eps):
    """Of a list of vectors, by Cholesky's factor and forward substitution."""
    n, d = len(z), len(z[0])
    means = [sum(column) / n for column in zip(*z)]
    z = [[x - m for x, m in zip(row, means)] for row in z]
    c = [[sum(row[i] * row[j] for row in z) / (n - 1) for j in range(d)] for i in range(d)]
    size = sum(c[i][i] for i in range(d)) / d
    low = [[0.0] * d for _ in range(d)]
    for i in range(d):
        for j in range(i + 1):
            left = c[i][j] + (eps * size if i == j else 0) - sum(low[i][k] * low[j][k] for k in range(j))
            low[i][j] = math.sqrt(left) if i == j else left / low[j][j]
    out = []
    for row in z:
        y: list[float] = []
        for i in range(d):
            y.append((row[i] - sum(low[i][k] * y[k] for k in range(i))) / low[i][i])
        out.append(y)
    return out


def test_wmse_over_three_positives_parted_twice():
    method, batch = prepared("wmse", positives=3, dim=4, part=2, rounds=2, eps=0.01)
    out = method.loss(batch, 0.0)["loss"].item()
    z = [projected(method, x) for x in batch["views"]]
    scores = batch.random("parts", (2,))
    total = 0.0
    for r in range(2):
        order = sorted(range(16), key=lambda i: float(scores[i, r]))
        for part in (order[:8], order[8:]):
            white = [slow_whitened([view[i] for i in part], 0.01) for view in z]
            for a in range(3):
                for b in range(a + 1, 3):
                    for p, q in zip(white[a], white[b]):
                        p, q = (torch.tensor(v) / math.hypot(*v) for v in (p, q))
                        total += float((p - q).square().sum()) / (2 * 16 * 3)
    assert math.isclose(out, total, rel_tol=1e-6)


def test_wmse_is_lightlys():
    bs, views = 16, rows(3, 16, 4)
    torch.manual_seed(0)
    order = torch.randperm(bs)
    torch.manual_seed(0)
    theirs = WMSELoss(embedding_dim=4, w_size=8, num_samples=3).double()(torch.cat(views))
    ours = decorrelation.w_mse(torch.stack(views, 1), order.argsort()[:, None] / bs, 8, 0.0)
    assert_same(ours, theirs, views)


def test_whitening_makes_the_covariance_the_identity():
    z = rows(1, 64, 6)[0] @ torch.randn(6, 6, dtype=torch.float64) + 5
    white = decorrelation.whitened(z, 0.0)
    torch.testing.assert_close(decorrelation.covariance(white), torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["few images", "one direction", "one point"])
def test_wmse_stays_finite_in_float32(kind):
    z = {
        "few images": torch.randn(8, 2, 16),
        "one direction": torch.randn(32, 2, 1) * torch.randn(16) + 1e-4 * torch.randn(32, 2, 16) + 100,
        "one point": torch.ones(32, 2, 16),
    }[kind].requires_grad_()
    loss = decorrelation.w_mse(z, torch.rand(len(z), 1), 32, 1e-4)
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.dtype == torch.float32 and torch.isfinite(loss) and torch.isfinite(gradient).all()


# ---- VICRegL ----


def slow_local(a, b, distance, count, weights):
    """Local VICReg of lists [B][N][D] with distances [B][N][M]: the mean over matches, and over both ways."""
    total = 0.0
    for x, y, far in ((a, b, distance), (b, a, [list(zip(*d)) for d in distance])):
        matched = []
        for d in far:
            pairs = [(min(line), i, line.index(min(line))) for i, line in enumerate(d)]
            matched.append(sorted(pairs)[:count])
        for k in range(count):
            left = [x[n][pairs[k][1]] for n, pairs in enumerate(matched)]
            right = [y[n][pairs[k][2]] for n, pairs in enumerate(matched)]
            total += slow_vicreg(left, right, weights) / count / 2
    return total


def on(needs, name, **settings):
    """A small method on the sandbox's ViT ("tokens") or ResNet."""
    small = {n: v for n, v in sandbox.SMALL.items() if n in ("hidden", "dim", "width")}
    known = setup.settings.allowed(find(name))
    small = {n: v for n, v in small.items() if n in known}
    encoder = sandbox.small_encoder(needs)
    return setup.build_method(find(name), encoder, sandbox.source(), 32, small | settings)


@pytest.mark.parametrize(("needs", "side", "count"), [("maps", 2, 2), ("tokens", 4, 6)])
def test_vicregl(needs, side, count):
    method = on(needs, "vicregl", width=12).double().train()
    batch = sandbox.one_batch(method)
    weights = (25.0, 25.0, 1.0)
    out = method.loss(batch, 0.0)
    whole, cells, at = [], [], []
    for x, geometry in zip(batch["views"], batch.geometry["views"]):
        seen = method.encoder.features(x)
        whole.append(method.projector(seen.vector).tolist())
        maps = method.encoder.maps(x)  # [B, C, H, W]
        places = [maps[:, :, i // side, i % side] for i in range(side**2)]
        z = method.local(torch.stack(places, 1).flatten(0, 1)).unflatten(0, (len(x), -1))
        cells.append(z.tolist())
        middles = [((i % side + 0.5) / side, (i // side + 0.5) / side) for i in range(side**2)]
        at.append([[[float(g[k, 0] * x + g[k, 1] * y + g[k, 2]) for k in (0, 1)] for x, y in middles]
                   for g in geometry.double()])  # fmt: skip
    by_place, by_look = (
        [[[math.dist(p, q) for q in y] for p in x] for x, y in zip(*pair)] for pair in (at, cells)
    )
    total = 0.75 * slow_vicreg(*whole, weights)
    for distance in (by_place, by_look):
        total += 0.25 * slow_local(*cells, distance, count, weights)
    assert math.isclose(out["loss"].item(), total, rel_tol=1e-9)


def test_vicregl_is_lightlys():
    """The authors' code takes the mean of the two views' variance and covariance terms, not their sum."""
    weights, (whole_a, whole_b), (a, b) = (25.0, 12.5, 0.5), rows(2, 10, 5), rows(2, 10, 3, 3, 4, seed=1)
    grids = [torch.rand(10, 3, 3, 2, dtype=torch.float64) for _ in range(2)]
    theirs = VICRegLLoss(num_matches=(4, 4))(
        global_view_features=[(whole_a, a), (whole_b, b)], global_view_grids=grids
    )
    local = [x.flatten(1, 2) for x in (a, b)]
    ours = 0.75 * decorrelation.vicreg(whole_a, whole_b, weights)
    for places in ([x.flatten(1, 2) for x in grids], [x.detach() for x in local]):
        ours = ours + 0.25 * decorrelation.local_vicreg(*local, torch.cdist(*places), 4, weights)
    assert_same(ours, theirs, (whole_a, whole_b, a, b))


# ---- all of them ----


@pytest.mark.parametrize("name", NAMES)
def test_vits_too(name):
    method = on("tokens", name).train()
    loss = method.loss(sandbox.one_batch(method), 0.5)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def without(name, **settings):
    """A method whose settings take its safeguard away."""
    kind = find(name)

    class Without(kind):
        @wraps(kind.__init__)
        def __init__(self, encoder, **given):
            super().__init__(encoder, **{**given, **settings})

    return Without


@pytest.mark.parametrize("name", ["vicreg", "vicregl", "wmse"])
def test_without_its_safeguard_the_suite_names_the_collapse(name, monkeypatch):
    """No variance and covariance; no whitening."""
    monkeypatch.setattr(decorrelation, "whitened", lambda z, eps: z)
    settings = {} if name == "wmse" else {"variance": 0.0, "covariance": 0.0}
    with pytest.raises(check.Broken, match=r"collapse|tell images apart"):
        check.training_learns(without(name, **settings))


def spread_of_projections(kind, steps):
    method = sandbox.build(kind)
    sandbox.train(method, steps, lr=3e-3)
    with torch.no_grad():
        return check.spread(method.eval().projector(method.encoder(sandbox.easy_pixels().float() / 255)))


@pytest.mark.parametrize("name", ["barlow_twins", "tico"])
def test_without_its_safeguard_projections_fall_together(name, monkeypatch):
    """No standardising and no redundancy; no contrast, and a teacher that is the network itself."""
    settings = {"tico": {"contrast": 0.0, "momentum": constant(0.0)}, "barlow_twins": {"redundancy": 0.0}}
    whole = spread_of_projections(find(name), 60)
    monkeypatch.setattr(decorrelation, "standardised", lambda z: z)
    assert spread_of_projections(without(name, **settings[name]), 60) < 0.2 * whole


def test_redundancy_makes_features_differ():
    """Two columns that say the same, and two that do not."""
    z = rows(1, 64, 1)[0]
    same, other = torch.cat([z, z], 1), torch.cat([z, rows(1, 64, 1, seed=1)[0]], 1)
    weighed = [float(decorrelation.barlow_twins(x, x, 1.0)) for x in (same, other)]
    assert weighed[0] > 1.9 and weighed[1] < 0.5
