"""Dense methods against slow, independent writings of their equations, in float64, position by position."""

import math

import pytest
import torch
from torch.nn import functional as F

from small_methods import prepared
from tapetum import encoders
from tapetum.base.errors import TapetumError
from tapetum.methods import find
from tapetum.parts.dense import regions, segments
from tapetum.train import check, sandbox, setup


def cosine(a, b):
    return float(a @ b / a.norm() / b.norm())


def infonce(q, k, queue, temperature):
    right = math.exp(cosine(q, k) / temperature)
    return -math.log(right / (right + sum(math.exp(cosine(q, n) / temperature) for n in queue)))


def at_positions(maps):
    """[B, D, H, W] -> for each image a list of the vectors of its positions, row by row."""
    return [[x[:, i, j] for i in range(x.shape[1]) for j in range(x.shape[2])] for x in maps]


def moved(name, **settings):
    """A prepared method whose teacher, if it has one, is no longer its student, and another batch."""
    method, _ = prepared(name, **settings)
    sandbox.train(method, 2, lr=1e-2)
    return method.train(), sandbox.one_batch(method, 3)


def test_densecl():
    method, batch = moved("densecl")
    out = method.loss(batch, 0.0)
    query, key = batch["views"]
    encoder, heads = method.teacher.chain[0].encoder, method.teacher.chain[1]
    maps, there = method.encoder.maps(query), encoder.maps(key)
    q, k = method.projector.whole(maps.mean((2, 3))), heads.whole(there.mean((2, 3)))
    dense_q, dense_k = at_positions(method.projector.dense(maps)), at_positions(heads.dense(there))
    maps, there = at_positions(maps), at_positions(there)
    whole = dense = 0.0
    for b in range(len(batch)):
        whole += infonce(q[b], k[b], method.wholes.items, 0.2) / len(batch)
        for i, x in enumerate(maps[b]):
            j = max(range(len(there[b])), key=lambda j: cosine(x, there[b][j]))
            dense += (
                infonce(dense_q[b][i], dense_k[b][j], method.means.items, 0.2) / len(batch) / len(maps[b])
            )
    assert math.isclose(float(out["whole"]), whole, rel_tol=1e-9)
    assert math.isclose(float(out["dense"]), dense, rel_tol=1e-9)
    assert math.isclose(float(out["loss"]), (whole + dense) / 2, rel_tol=1e-9)

    at = int(method.means.next)
    method.after_step(0.0, out["keep"])
    slots = (at + torch.arange(len(batch))) % 64
    mean = torch.stack([sum(x) / len(x) for x in dense_k])
    torch.testing.assert_close(method.means.items[slots], mean / mean.norm(dim=1, keepdim=True))
    torch.testing.assert_close(method.wholes.items[slots], k / k.norm(dim=1, keepdim=True))


def test_densecls_share_of_the_dense_loss_is_a_schedule():
    method, batch = prepared("densecl", dense="0->0.5 until 0.5 linear")
    out = {t: method.loss(batch, t) for t in (0.0, 0.25, 1.0)}
    for t, share in ((0.0, 0.0), (0.25, 0.25), (1.0, 0.5)):
        want = (1 - share) * out[t]["whole"] + share * out[t]["dense"]
        torch.testing.assert_close(out[t]["loss"], want)


@pytest.mark.parametrize("instance", [0.0, 0.5])
def test_pixpro(instance):
    method, batch = moved("pixpro", instance=instance)
    out = method.loss(batch, 0.0)
    encoder, heads = method.teacher.chain[0].encoder, method.teacher.chain[1]
    said, target, middle, wholes = [], [], [], []
    for x, geometry in zip(batch["views"], batch.geometry["views"]):
        maps, there = method.encoder.maps(x), encoder.maps(x)
        side = maps.shape[-1]
        said.append(propagated(method, at_positions(method.projector.dense(maps))))
        target.append(at_positions(heads.dense(there)))
        middle.append([[centre(g, i, j, side) for i in range(side) for j in range(side)] for g in geometry])
        if instance:
            wholes.append(
                (method.predictor(method.projector.whole(maps.mean((2, 3)))), heads.whole(there.mean((2, 3))))
            )
    total = pairs = 0
    for b in range(len(batch)):
        size = max(float((g[b, :2, :2].sum(1) / side).norm()) for g in batch.geometry["views"])
        near = [
            (i, j)
            for i, p in enumerate(middle[0][b])
            for j, q in enumerate(middle[1][b])
            if float((p - q).norm()) / size < 0.7
        ]
        pairs += len(near)
        for i, j in near:
            both = cosine(said[0][b][i], target[1][b][j]) + cosine(said[1][b][j], target[0][b][i])
            total -= both / len(near) / len(batch)
    assert 0 < pairs < len(batch) * side**4
    if instance:
        for (p, _), (_, z) in ((wholes[0], wholes[1]), (wholes[1], wholes[0])):
            total += instance * sum(2 - 2 * cosine(a, b) for a, b in zip(p, z)) / len(batch) / 2
    assert math.isclose(float(out["loss"]), total, rel_tol=1e-6)


def propagated(method, at):
    """The pixel propagation module, one position after the other."""
    weight, bias = method.propagate.transform.weight, method.propagate.transform.bias
    return [
        [sum(max(cosine(x, y), 0) ** 2 * (weight @ y + bias) for y in image) for x in image] for image in at
    ]


def centre(geometry, row, column, side):
    """Where the middle of a position lies in the image."""
    return (geometry @ torch.tensor([(column + 0.5) / side, (row + 0.5) / side, 1.0]))[:2]


def test_pixpros_teacher_follows():
    method, _ = prepared("pixpro")
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for p in (*method.encoder.parameters(), *method.projector.parameters()):
            p.add_(1.0)
    method.after_step(0.5, {})
    new = (*method.encoder.parameters(), *method.projector.parameters())
    for old, now, student in zip(before, method.teacher.parameters(), new):
        torch.testing.assert_close(now, 0.995 * old + 0.005 * student)


@pytest.mark.parametrize("superpixels", [False, True])
@pytest.mark.parametrize("name", ["detcon", "detcon_b"])
def test_detcon(name, superpixels):
    method, batch = moved(name, cells=3, samples=2, superpixels=superpixels)
    out = method.loss(batch, 0.0)
    slow = method.teacher.chain if name == "detcon_b" else (method.encoder, method.projector)
    said, target, ids = [], [], []
    for view, (x, geometry) in enumerate(zip(batch["views"], batch.geometry["views"])):
        maps, there = method.encoder.maps(x), slow[0].maps(x)
        shares = segments(regions(batch, 3), 9, geometry, maps.shape[-1])  # tested in tests/parts
        u = batch.random(f"segments{view}", (2,))
        means, slow_means, drawn = [], [], []
        for b in range(len(batch)):
            shown = [m for m in range(9) if shares[b, m].sum() > 0]
            for n in range(2):
                m = shown[int(u[b, n] * len(shown))]
                drawn.append(m)
                for into, of in ((means, maps), (slow_means, there)):
                    into.append((shares[b, m] * of[b]).sum((1, 2)) / shares[b, m].sum())
        z = method.projector(torch.stack(means))
        said.append(method.predictor(z) if name == "detcon_b" else z)
        target.append(slow[1](torch.stack(slow_means)))
        ids.append(drawn)
    total, rows = 0.0, range(2 * len(batch))
    for a, b in ((0, 1), (1, 0)):
        for i in rows:
            same = [j for j in rows if j // 2 == i // 2 and ids[b][j] == ids[a][i]]
            mine = [j for j in rows if j // 2 == i // 2 and ids[a][j] == ids[a][i]]
            score = [math.exp(cosine(said[a][i], target[b][j]) / 0.1) for j in rows]
            within = [math.exp(cosine(said[a][i], target[a][j]) / 0.1) for j in rows if j not in mine]
            logs = [math.log(score[j] / (sum(score) + sum(within))) for j in same]
            total -= sum(logs) / max(len(same), 1) / len(mine) / len(rows)
    assert math.isclose(float(out["loss"]), total, rel_tol=1e-6)


def test_pcd():
    method, batch = moved("pcd")
    out = method.loss(batch, 0.0)
    target = at_positions(method.teacher.module.encoder.maps(batch["x"]))
    said = at_positions(method.projector(method.attention(method.encoder.maps(batch["x"]))))
    total = 0.0
    for b in range(len(batch)):
        for s, t in zip(said[b], target[b]):
            total += infonce(s, t, method.queue.items, 0.2) / len(batch) / len(said[b])
    assert math.isclose(float(out["loss"]), total, rel_tol=1e-9)
    at = int(method.queue.next)
    method.after_step(0.0, out["keep"])
    mean = torch.stack([sum(x) / len(x) for x in target])
    slots = (at + torch.arange(len(batch))) % 64
    torch.testing.assert_close(method.queue.items[slots], mean / mean.norm(dim=1, keepdim=True))


def test_pcd_learns_from_the_teacher_that_is_given():
    torch.manual_seed(1)
    teacher = encoders.build("vit_tiny_patch16_224", 32, patch_size=8, embed_dim=48, depth=1, num_heads=2)
    method = sandbox.build(find("pcd"), teacher=teacher)
    before = teacher.digest()
    sandbox.train(method, 2)
    assert method.teacher.module.encoder.digest() == before == teacher.digest()
    batch = sandbox.one_batch(method)
    with torch.no_grad():
        there = method.teacher(batch["x"])
        student = method.encoder.maps(batch["x"])
    assert there.shape[1:] == (48, 4, 4) and student.shape[2:] == (2, 2)
    mean = F.normalize(there.mean((2, 3)), dim=1)
    torch.testing.assert_close(method.loss(batch, 0.0)["keep"]["queue"], mean)


def test_pcds_teacher_is_by_default_the_encoder_as_it_began():
    method, _ = prepared("pcd")
    began = method.encoder.digest()
    sandbox.train(method, 2)
    assert method.teacher.module.encoder.digest() == began != method.encoder.digest()


def test_pcd_refuses_in_a_sentence():
    with pytest.raises(TapetumError, match=r"heads is 5; it must divide .* width 64"):
        sandbox.build(find("pcd"), heads=5)
    vector = encoders.Encoder.wrap(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 8)), 32
    )
    with pytest.raises(TapetumError, match="gives no feature maps"):
        sandbox.build(find("pcd"), teacher=vector)


@pytest.mark.parametrize("name", ["densecl", "pixpro", "detcon", "detcon_b", "pcd"])
def test_vits_learn_it_too(name):
    torch.manual_seed(0)
    vit = encoders.build("vit_tiny_patch16_224", 32, patch_size=8, embed_dim=32, depth=1, num_heads=2)
    small = {"hidden": 32} | ({"queue": 64} if name in ("densecl", "pcd") else {})
    method = setup.build_method(find(name), vit, sandbox.source(), 32, small).train()
    out = method.loss(sandbox.one_batch(method), 0.5)
    out["loss"].backward()
    learning = [p for p in method.parameters() if p.requires_grad]
    assert torch.isfinite(out["loss"]) and all(p.grad is not None for p in learning)


class Uncontrasted(find("densecl")):
    """DenseCL whose memories hold nothing that repels."""

    def loss(self, batch, t):
        out = super().loss(batch, t)
        query, key = batch["views"]
        _, q, dense_q = self.projector(self.encoder.maps(query))
        _, k, dense_k = self.projector(self.encoder.maps(key))
        near = F.cosine_similarity(q, k).mean() + F.cosine_similarity(dense_q, dense_k, dim=2).mean()
        return {**out, "loss": 2 - near}


class OnlyItself(find("pixpro")):
    """PixPro without its slow copy: the targets learn, too, and nothing is asymmetric."""

    def loss(self, batch, t):
        z = [self.projector(self.encoder.maps(x))[2] for x in batch["views"]]
        held = sum(p.sum() for p in self.propagate.parameters()) * 0
        return {"loss": 2 - 2 * F.cosine_similarity(*z, dim=2).mean() + held}


@pytest.mark.parametrize("kind", [Uncontrasted, OnlyItself])
def test_without_its_safeguard_it_collapses_and_is_named(kind):
    with pytest.raises(check.Broken, match=r"collapse|tell images apart"):
        check.training_learns(kind)
