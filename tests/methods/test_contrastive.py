"""The methods with negatives against a slow, independent writing of their papers' equations, in float64."""

import inspect
import math
from functools import wraps

import pytest
import torch
from scipy import special
from torch.nn import functional as F

from small_methods import prepared
from tapetum.methods import find
from tapetum.parts.heads import mlp
from tapetum.parts.losses import cosine_distance
from tapetum.parts.negatives import noise_contrast
from tapetum.parts.schedule import constant
from tapetum.parts.state import Queue
from tapetum.train import check, sandbox, setup

METHODS = ["mocov2", "mocov3", "nnclr", "dcl", "dclw", "npid", "mochi", "ressl"]
QUEUED = ["mocov2", "mochi", "nnclr", "ressl", "densecl", "pcd"]


def cos(a, b):
    a, b = a.detach(), b.detach()
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def picked(query, key, others, temperature):
    """-log of the share of the query's own key among it and others."""
    own = math.exp(cos(query, key) / temperature)
    return -math.log(own / (own + sum(math.exp(cos(query, other) / temperature) for other in others)))


def said_by(teacher, x):
    """What a slow copy's chain of modules gives, one after the other."""
    for module in teacher.chain:
        x = module(x)
    return x


def assert_queue_took(queue, before, pushed):
    """The first rows are the new ones, the others stayed."""
    torch.testing.assert_close(queue.items[: len(pushed)], F.normalize(pushed, dim=1))
    assert torch.equal(queue.items[len(pushed) :], before[len(pushed) :])
    assert queue.next == len(pushed)


def assert_follows(method, t, momentum):
    """Moving the encoder moves the slow copy by 1 - momentum, in after_step."""
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    method.after_step(t, {"keys": torch.zeros(0, 16)})
    originals = [*method.encoder.parameters(), *method.projector.parameters()]
    for old, now, new in zip(before, method.teacher.parameters(), originals, strict=True):
        torch.testing.assert_close(now, momentum * old + (1 - momentum) * new)


def trained(name, **settings):
    """A method that its slow copy lags behind, whose queue is filled from the front again."""
    method, batch = prepared(name, **settings)
    sandbox.train(method, 2, lr=1e-2)
    if hasattr(method, "queue"):
        method.queue.next.zero_()
    return method, batch


def test_mocov2():
    method, batch = trained("mocov2", temperature=0.3)
    out = method.loss(batch, 0.5)
    q = method.projector(method.encoder(batch["views"][0]))
    k = said_by(method.teacher, batch["views"][1])
    total = sum(picked(q[i], k[i], method.queue.items, 0.3) for i in range(16))
    assert math.isclose(float(out["loss"]), total / 16, rel_tol=1e-9)
    assert not out["keep"]["keys"].requires_grad

    before = method.queue.items.clone()
    method.after_step(0.5, out["keep"])
    assert_queue_took(method.queue, before, k)
    assert_follows(method, 0.5, 0.999)


def test_mochi():
    """The mixtures are made one by one here, out of the same random numbers."""
    settings = {"hardest": 8, "pairs": 5, "own": 3, "warmup": 0.3}
    method, batch = trained("mochi", temperature=0.3, **settings)
    q = F.normalize(method.projector(method.encoder(batch["views"][0])), dim=1)
    k = said_by(method.teacher, batch["views"][1])
    u = batch.random("mix", (3 * 5 + 2 * 3,)).double().tolist()
    total, plain = 0.0, 0.0
    for b in range(16):
        top = sorted(method.queue.items, key=lambda item: -cos(q[b], item))[:8]
        first, step, share = u[b][:5], u[b][5:10], u[b][10:15]
        alone, ours = u[b][15:18], u[b][18:]
        mixed = []
        for s in range(5):
            i = int(8 * first[s])
            j = (i + 1 + int(7 * step[s])) % 8
            mixed.append(share[s] * top[i] + (1 - share[s]) * top[j])
        for s in range(3):
            mixed.append(ours[s] / 2 * q[b] + (1 - ours[s] / 2) * top[int(8 * alone[s])])
        total += picked(q[b], k[b], [*method.queue.items, *mixed], 0.3) / 16
        plain += picked(q[b], k[b], method.queue.items, 0.3) / 16
    assert math.isclose(float(method.loss(batch, 0.3)["loss"]), total, rel_tol=1e-6)
    assert math.isclose(float(method.loss(batch, 0.29)["loss"]), plain, rel_tol=1e-9)
    assert total > plain


def test_mocov3():
    method, batch = trained("mocov3", temperature=0.3)
    loss = method.loss(batch, 0.0)["loss"]
    q = [method.predictor(method.projector(method.encoder(x))) for x in batch["views"]]
    k = [said_by(method.teacher, x) for x in batch["views"]]
    total = 0.0
    for a, b in ((0, 1), (1, 0)):
        for i in range(16):
            others = [k[b][j] for j in range(16) if j != i]
            total += 2 * 0.3 * picked(q[a][i], k[b][i], others, 0.3) / 16
    assert math.isclose(float(loss), total, rel_tol=1e-9)
    assert_follows(method, 0.25, 1 - (1 - 0.99) * (math.cos(math.pi * 0.25) + 1) / 2)


@pytest.mark.parametrize("frozen", [True, False])
def test_mocov3_leaves_a_vits_patch_embedding_as_it_is(frozen):
    method = on_vit("mocov3", frozen_patches=frozen)
    patches, block = method.encoder.net.patch_embed.proj, method.encoder.net.blocks[0].mlp.fc1
    before = [part.weight.detach().clone() for part in (patches, block)]
    sandbox.train(method, 2)
    assert torch.equal(patches.weight, before[0]) == frozen
    assert not torch.equal(block.weight, before[1])


def test_mocov3s_crops_are_larger_for_resnets():
    smallest = {"vit": on_vit("mocov3"), "resnet": prepared("mocov3")[0]}
    scales = {name: m.views["views"][0].steps[0].scale for name, m in smallest.items()}
    assert scales == {"vit": (0.08, 1.0), "resnet": (0.2, 1.0)}


@pytest.mark.parametrize(("vit", "linear", "norms"), [(True, [3, 2], [3, 2]), (False, [2, 2], [2, 1])])
def test_mocov3s_heads_are_smaller_for_resnets(vit, linear, norms):
    method = on_vit("mocov3") if vit else prepared("mocov3")[0]
    heads = [list(head) for head in (method.projector, method.predictor)]
    assert [sum(isinstance(part, torch.nn.Linear) for part in head) for head in heads] == linear
    assert [sum(isinstance(part, torch.nn.BatchNorm1d) for part in head) for head in heads] == norms


def test_nnclr():
    method, batch = trained("nnclr", temperature=0.3)
    out = method.loss(batch, 0.0)
    z = [method.projector(method.encoder(x)) for x in batch["views"]]
    p = [method.predictor(x) for x in z]
    near = [[max(method.queue.items, key=lambda item: cos(row, item)) for row in rows] for rows in z]
    total = 0.0
    for a, b in ((0, 1), (1, 0)):
        for i in range(16):
            others = [p[b][j] for j in range(16) if j != i]
            total += picked(near[a][i], p[b][i], others, 0.3) / 16 / 2
    assert math.isclose(float(out["loss"]), total, rel_tol=1e-9)

    before = method.queue.items.clone()
    method.after_step(0.0, out["keep"])
    assert_queue_took(method.queue, before, z[0])


@pytest.mark.parametrize(("name", "settings"), [("dcl", {}), ("dclw", {"sigma": 0.4})])
def test_dcl(name, settings):
    method, batch = trained(name, temperature=0.3, **settings)
    loss = method.loss(batch, 0.0)["loss"]
    a, b = method.projector(method.encoder(torch.cat(batch["views"]))).chunk(2)
    weights = [1.0] * 16
    if name == "dclw":
        near = [math.exp(cos(x, y) / 0.4) for x, y in zip(a, b)]
        weights = [2 - n / (sum(near) / 16) for n in near]
    total = 0.0
    for i in range(16):
        for x in (a[i], b[i]):
            others = [v[j] for v in (a, b) for j in range(16) if j != i]
            total += math.log(sum(math.exp(cos(x, other) / 0.3) for other in others))
            total -= weights[i] * cos(a[i], b[i]) / 0.3
    assert math.isclose(float(loss), total / 32, rel_tol=1e-9)


@pytest.mark.parametrize("noise", [32, 0])
def test_npid(noise):
    """With noise: h = P / (P + m / n), P = exp(v f / t) / Z, and Z is n times the mean over all directions
    of a space of 16 dimensions, Gamma(8) (2 t)^7 I_7(1 / t). Without: the softmax over all images."""
    method, batch = trained("npid", temperature=0.3, noise=noise, proximal=5.0)
    out = method.loss(batch, 0.0)
    vectors = F.normalize(method.projector(method.encoder(batch["x"])), dim=1)
    z = 64 * special.gamma(8) * 0.6**7 * special.iv(7, 1 / 0.3)
    drawn = [method.bank[int(64 * u)] for u in batch.random("noise", (noise,), per="batch").tolist()]

    def h(a, b):
        p = math.exp(cos(a, b) / 0.3) / z
        return p / (p + noise / 64)

    total = 0.0
    for v, i in zip(vectors, batch["index"].tolist()):
        own = method.bank[i]
        if noise:
            total += 5.0 * float((v - own).detach().square().sum())
            total -= math.log(h(v, own)) + sum(math.log(1 - h(v, other)) for other in drawn)
        else:
            total += picked(v, own, [other for j, other in enumerate(method.bank) if j != i], 0.3)
    assert math.isclose(float(out["loss"]), total / 16, rel_tol=1e-7)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_npid_remembers_each_images_last_vector(momentum):
    method, batch = trained("npid", momentum=momentum)
    before, keep = method.bank.clone(), method.loss(batch, 0.0)["keep"]
    method.after_step(0.0, keep)
    vectors = F.normalize(method.projector(method.encoder(batch["x"])), dim=1)
    seen = batch["index"].tolist()
    for v, i in zip(vectors, seen):
        want = momentum * before[i] + (1 - momentum) * v
        torch.testing.assert_close(method.bank[i], want / want.norm())
    others = [i for i in range(64) if i not in seen]
    assert len(others) == 48 and torch.equal(method.bank[others], before[others])


def test_ressl():
    method, batch = trained("ressl")
    out = method.loss(batch, 0.0)
    q = method.projector(method.encoder(batch["strong"]))
    k = said_by(method.teacher, batch["weak"])
    total = 0.0
    for i in range(16):
        shares = []
        for row, temperature in ((k[i], 0.04), (q[i], 0.1)):
            near = [math.exp(cos(row, item) / temperature) for item in method.queue.items]
            shares.append([n / sum(near) for n in near])
        total -= sum(want * math.log(given) for want, given in zip(*shares)) / 16
    assert math.isclose(float(out["loss"]), total, rel_tol=1e-9)

    before = method.queue.items.clone()
    method.after_step(0.0, out["keep"])
    assert_queue_took(method.queue, before, k)
    assert_follows(method, 0.5, 0.999)


def test_ressls_teacher_sees_no_change_of_colour():
    views = prepared("ressl")[0].views
    kinds = {name: {type(step).__name__ for step in view.steps} for name, view in views.items()}
    assert kinds == {"weak": {"Crop", "Flip"}, "strong": {"Crop", "Flip", "Jitter", "Gray", "Blur"}}


@pytest.mark.parametrize("name", QUEUED)
def test_a_queue_holds_no_more_than_all_images(name):
    """A longer one would hold old vectors of the image itself, several times, among what repels it."""
    for queue, held in ((65_536, 64), (40, 40)):
        method = sandbox.build(find(name), queue=queue)
        assert {len(m.items) for m in method.modules() if isinstance(m, Queue)} == {held}


def on_vit(name, **settings):
    """A small method on a small ViT."""
    small = sandbox.SMALL | {"predictor_hidden": 32}
    small = {n: v for n, v in small.items() if n in inspect.signature(find(name)).parameters}
    encoder = sandbox.small_encoder("tokens")
    return setup.build_method(find(name), encoder, sandbox.source(), 32, {**small, **settings})


@pytest.mark.parametrize("name", METHODS)
def test_vits_learn_too(name):
    method = on_vit(name)
    method.loss(sandbox.one_batch(method), 0.5)["loss"].backward()
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []
    method.zero_grad()
    losses = [numbers["loss"] for numbers in sandbox.train(method, 2)]
    assert all(map(math.isfinite, losses))


def changed(name, **settings):
    """A method with other settings."""
    kind = find(name)

    class Changed(kind):
        @wraps(kind.__init__)
        def __init__(self, encoder, **given):
            super().__init__(encoder, **given, **settings)

    return Changed


QUICK = {"momentum": constant(0.5)}  # a slow copy that follows within the few steps of a test
FILE = "tapetum.methods.contrastive"


@pytest.mark.parametrize(
    ("name", "loss", "settings"),
    [
        ("mocov2", "info_nce", QUICK),
        ("mocov3", "in_batch", QUICK),
        ("nnclr", "in_batch", {}),
        ("dcl", "decoupled", {}),
    ],
)
def test_without_negatives_it_collapses(monkeypatch, name, loss, settings):
    """In heads without batch norm, which alone would keep some directions apart, attraction is left."""
    monkeypatch.setattr(f"{FILE}.{name}.mlp", plain_mlp)
    monkeypatch.setattr(f"{FILE}.{name}.{loss}", lambda q, k, *rest: cosine_distance(q, k))
    with pytest.raises(check.Broken, match="does not tell images apart"):
        check.training_learns(changed(name, **settings))


def plain_mlp(*widths, **_):
    return mlp(*widths, norm=None)


def test_negatives_alone_keep_images_apart(monkeypatch):
    """The same heads, with the negatives."""
    monkeypatch.setattr(f"{FILE}.dcl.mlp", plain_mlp)
    check.training_learns(find("dcl"))


def test_without_noise_npids_vectors_become_one(monkeypatch):
    apart = []
    for loss in (noise_contrast, lambda v, own, *rest: cosine_distance(v, own)):
        monkeypatch.setattr(f"{FILE}.npid.noise_contrast", loss)
        method = sandbox.build(find("npid"))
        sandbox.train(method, 60, lr=3e-3)
        apart.append(check.spread(method.bank))
    assert apart[0] > 0.2 and apart[1] < 0.01


def test_a_blunt_teacher_says_nothing_in_ressl():
    """A teacher no sharper than the student: all that was seen becomes equally near."""
    with pytest.raises(check.Broken, match=r"to 4\.1\d+, but it does not tell images apart"):  # ln 64 = 4.159
        check.training_learns(changed("ressl", teacher_temperature=0.2, **QUICK))
