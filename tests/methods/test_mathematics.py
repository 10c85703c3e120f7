"""Each method's loss and state against a slow, independent writing of its paper's equations, in float64."""

import math

import pytest
import torch
from torch.nn import functional as F

from small_methods import prepared, train_apart
from tapetum.train import sandbox


def test_simclr():
    method, batch = prepared("simclr", temperature=0.2)
    loss = method.loss(batch, 0.0)["loss"]
    z = F.normalize(method.projector(method.encoder(torch.cat(batch["views"]))), dim=1)
    n, total = len(batch), 0.0
    for i in range(2 * n):
        score = [math.exp(float(z[i] @ z[k]) / 0.2) if k != i else 0.0 for k in range(2 * n)]
        total -= math.log(score[(i + n) % (2 * n)] / sum(score)) / (2 * n)
    assert math.isclose(float(loss), total, rel_tol=1e-9)


def test_byol():
    method, batch = prepared("byol")
    train_apart(method)
    loss = method.loss(batch, 0.0)["loss"]
    total = 0.0
    for a, b in ((0, 1), (1, 0)):
        said = method.predictor(method.projector(method.encoder(batch["views"][a])))
        teacher, head = method.teacher.chain
        target = head(teacher(batch["views"][b]))
        for p, z in zip(said, target):
            total += float((p / p.norm() - z / z.norm()).square().sum()) / len(batch) / 2
    assert math.isclose(float(loss), total, rel_tol=1e-9)


def test_byols_teacher_follows_the_schedule_of_the_paper():
    method, _ = prepared("byol")
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    method.after_step(0.25, {})
    tau = 1 - (1 - 0.996) * (math.cos(math.pi * 0.25) + 1) / 2
    for old, now, new in zip(before, method.teacher.parameters(), method.encoder.parameters()):
        torch.testing.assert_close(now, tau * old + (1 - tau) * new)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_dino(batch_norm):
    method, batch = prepared("dino", batch_norm=batch_norm)
    norms = [part for part in method.projector.modules() if isinstance(part, torch.nn.BatchNorm1d)]
    assert len(norms) == 2 * batch_norm
    with torch.no_grad():
        method.centre.normal_(generator=torch.Generator().manual_seed(0))
    out = method.loss(batch, 0.1)
    sharp = 0.04 + (0.07 - 0.04) * 0.1 / 0.3
    seen = [method.encoder(torch.cat(batch[name])) for name in ("large", "small")]  # norms see them so
    student = method.projector(torch.cat(seen)).chunk(4)
    encoder, head = method.teacher.chain
    teacher = head(encoder(torch.cat(batch["large"]))).chunk(2)
    total, pairs = 0.0, 0
    for i, guess in enumerate(teacher):
        p = ((guess - method.centre) / sharp).exp()
        p = p / p.sum(1, keepdim=True)
        for j, logits in enumerate(student):
            if i != j:
                q = (logits / 0.1).exp()
                total -= float((p * (q / q.sum(1, keepdim=True)).log()).sum() / len(batch))
                pairs += 1
    assert pairs == 6
    assert math.isclose(float(out["loss"]), total / pairs, rel_tol=1e-9)

    centre = method.centre.clone()
    method.after_step(0.1, out["keep"])
    want = 0.9 * centre + 0.1 * (teacher[0].mean(0) + teacher[1].mean(0)) / 2
    torch.testing.assert_close(method.centre, want)


def test_dinos_prototypes_stand_still_at_first():
    method, _ = prepared("dino", frozen=0.3)
    weight = method.projector[1].weight
    before = weight.detach().clone()
    sandbox.train(method, 3)
    ((_, rate),) = method.rates
    assert [rate(t) for t in (0.0, 0.29, 0.3, 1.0)] == [0, 0, 1, 1]
    assert not torch.equal(weight, before)  # t passed 0.3 in the second step
    method, _ = prepared("dino", frozen=1.0)
    before = method.projector[1].weight.detach().clone()
    sandbox.train(method, 3)
    assert torch.equal(method.projector[1].weight, before)


def test_dino_exports_its_teacher():
    method, _ = prepared("dino")
    assert method.product() is method.teacher.chain[0]


@pytest.mark.parametrize("normalise", [True, False])
def test_mae(normalise):
    method, batch = prepared("mae", normalise=normalise)
    loss = method.loss(batch, 0.0)["loss"]
    grid, patch = method.encoder.grid, method.encoder.patch
    order = batch.random("mask", (grid**2,)).argsort(1)
    hidden = int(0.75 * grid**2)
    hide, keep = order[:, :hidden], order[:, hidden:]
    tokens = method.encoder.features(batch["x"], keep=keep).tokens
    painted = method.decoder(tokens, keep, hide)
    total = 0.0
    for b in range(len(batch)):
        for m, at in enumerate(hide[b].tolist()):
            y, x = patch * (at // grid), patch * (at % grid)
            want = batch["x"][b, :, y : y + patch, x : x + patch].flatten().double()
            if normalise:
                want = (want - want.mean()) / (want.var(unbiased=False) + 1e-6).sqrt()
            total += float((painted[b, m] - want).square().mean())
    assert math.isclose(float(loss), total / (len(batch) * hidden), rel_tol=1e-6)


def test_mae_never_sees_what_it_paints():
    method, batch = prepared("mae")
    grid, patch = method.encoder.grid, method.encoder.patch
    keep = batch.random("mask", (grid**2,)).argsort(1)[:, int(0.75 * grid**2) :]
    before = method.encoder.tokens(batch["x"], keep=keep)
    shown = torch.zeros(len(batch), grid**2).scatter_(1, keep, 1.0).view(-1, 1, grid, grid)
    shown = shown.repeat_interleave(patch, 2).repeat_interleave(patch, 3).bool()
    other = torch.where(shown, batch["x"], torch.rand_like(batch["x"]))
    torch.testing.assert_close(method.encoder.tokens(other, keep=keep), before)


def test_supervised_is_smoothed_cross_entropy_over_known_labels():
    method, batch = prepared("supervised", smoothing=0.1)
    batch["label"] = batch["label"].clone()
    batch["label"][::3] = -1
    out = method.loss(batch, 0.0)
    logp = method.predict(batch["x"]).log_softmax(1)
    known = [i for i in range(len(batch)) if batch["label"][i] >= 0]
    total, right = 0.0, 0
    for i in known:
        target = torch.full((sandbox.CLASSES,), 0.1 / sandbox.CLASSES)
        target[batch["label"][i]] += 0.9
        total -= float((target * logp[i]).sum()) / len(known)
        right += int(logp[i].argmax() == batch["label"][i])
    assert math.isclose(float(out["loss"]), total, rel_tol=1e-6)
    assert math.isclose(float(out["accuracy"]), right / len(known), rel_tol=1e-6)


@pytest.mark.parametrize("settings", [{"mixup": 0.5}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_supervised_mixes_labels_as_it_mixes_images(settings):
    method, batch = prepared("supervised", smoothing=0.0, **settings)
    x, share = method.mix(batch)
    assert not torch.allclose(x, batch["x"]) and ((share >= 0) & (share <= 1)).all()
    logp = method.predict(x).log_softmax(1)
    total = 0.0
    for i in range(len(batch)):
        for label, weight in ((batch["label"][i], share[i]), (batch["label"][i ^ 1], 1 - share[i])):
            total -= float(weight * logp[i, label]) / len(batch)
    assert math.isclose(float(method.loss(batch, 0.0)["loss"]), total, rel_tol=1e-6)
