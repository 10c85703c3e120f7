"""Methods that learn from labels against slow writings of their equations in float64."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import SupConLoss
from torch.nn import functional as F

from small_methods import prepared
from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.data import open_data
from tapetum.methods import find
from tapetum.methods.supervised.triplet import chosen, triplets
from tapetum.parts.losses import nt_xent
from tapetum.train import alike, sandbox, setup
from tapetum.views import Batch


def partly_labelled(batch):
    """The batch with every third label unknown."""
    label = batch["label"].clone()
    label[::3] = -1
    return Batch({**batch, "label": label}, batch.draw, batch.geometry)


# ---- SupCon ----


@pytest.mark.parametrize("partly", [False, True])
def test_supcon(partly):
    method, batch = prepared("supcon", temperature=0.2)
    batch = partly_labelled(batch) if partly else batch
    z = F.normalize(method.projector(method.encoder(torch.cat(batch["views"]))), dim=1)
    n, total = len(batch), 0.0
    of = [int(batch["label"][i % n]) for i in range(2 * n)]
    for i in range(2 * n):
        bottom = sum(math.exp(float(z[i] @ z[k]) / 0.2) for k in range(2 * n) if k != i)
        other_view = (i + n) % (2 * n)
        alike = [k for k in range(2 * n) if k != i and of[k] == of[i]] if of[i] >= 0 else [other_view]
        assert other_view in alike
        for k in alike:
            total -= math.log(math.exp(float(z[i] @ z[k]) / 0.2) / bottom) / len(alike) / (2 * n)
    assert math.isclose(float(method.loss(batch, 0.0)["loss"]), total, rel_tol=1e-9)


def test_supcon_is_pytorch_metric_learnings():
    z = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    label = torch.tensor([0, 1, 2, 3, 0, 0]).repeat(2)
    ours, theirs = nt_xent(z, label, 0.1), SupConLoss(temperature=0.1)(z, label)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, z)[0] for loss in (ours, theirs)))


def test_supcon_without_labels_is_simclr():
    (supcon, batch), (simclr, _) = prepared("supcon"), prepared("simclr")
    batch = Batch({**batch, "label": torch.full_like(batch["label"], -1)}, batch.draw)
    assert torch.equal(supcon.loss(batch, 0.0)["loss"], simclr.loss(batch, 0.0)["loss"])


@pytest.mark.parametrize("name", ["supcon", "triplet", "supervised_mim"])
def test_images_without_any_label_are_refused(name):
    kind = find(name)
    images = open_data(sandbox.easy_images()[0])
    with pytest.raises(TapetumError, match="learns from labels"):
        setup.build_method(kind, sandbox.small_encoder(kind.needs), images, 32, {})


# ---- triplets ----


@pytest.mark.parametrize("partly", [False, True])
def test_triplet(partly):
    method, batch = prepared("triplet")
    batch = partly_labelled(batch) if partly else batch
    z = method.embedding(method.encoder(batch["x"])).tolist()
    label, u = batch["label"].tolist(), batch.random("triplet", (2,)).tolist()
    errors = []
    for i in range(len(batch)):
        alike = [k for k in range(len(batch)) if k != i and label[k] == label[i] and label[i] >= 0]
        apart = [k for k in range(len(batch)) if label[k] != label[i] and label[k] >= 0]
        if alike and apart and label[i] >= 0:
            near = math.exp(math.dist(z[i], z[alike[int(u[i][0] * len(alike))]]))
            far = math.exp(math.dist(z[i], z[apart[int(u[i][1] * len(apart))]]))
            errors.append((near / (near + far)) ** 2 + (far / (near + far) - 1) ** 2)
    assert len(errors) == (10 if partly else 16)
    want = sum(errors) / len(errors)
    assert math.isclose(float(method.loss(batch, 0.0)["loss"]), want, rel_tol=1e-9)


def test_every_partner_is_drawn_equally_often():
    mask = torch.tensor([False, True, True, False, True]).expand(300, -1)
    assert chosen(mask, torch.arange(300) / 300).bincount().tolist() == [0, 100, 100, 0, 100]


@pytest.mark.parametrize("labels", [[0] * 6, [0, 1, 2, 3, 4, 5], [-1] * 6])
def test_a_batch_without_triplets_asks_for_nothing(labels):
    z = torch.randn(6, 3, requires_grad=True)
    loss = triplets(z, torch.tensor(labels), torch.rand(6, 2))
    loss.backward()
    assert loss == 0 and torch.equal(z.grad, torch.zeros_like(z))


def test_equal_images_give_no_infinite_gradient():
    z = torch.ones(4, 3, requires_grad=True)
    triplets(z, torch.tensor([0, 0, 1, 1]), torch.rand(4, 2)).backward()
    assert torch.isfinite(z.grad).all()


# ---- labels and masks ----


def test_supervised_mim():
    method, batch = prepared("supervised_mim", painting=0.7)
    batch = partly_labelled(batch)
    out = method.loss(batch, 0.0)
    logp = method.classifier(method.encoder(batch["x"])).log_softmax(1)
    known = [i for i in range(len(batch)) if batch["label"][i] >= 0]
    naming = 0.0
    for i in known:
        target = torch.full((sandbox.CLASSES,), 0.1 / sandbox.CLASSES)
        target[batch["label"][i]] += 0.9
        naming -= float((target * logp[i]).sum()) / len(known)
    grid, patch = method.encoder.grid, method.encoder.patch
    order = batch.random("mask", (grid**2,)).argsort(1)
    hidden = int(0.75 * grid**2)
    hide, keep = order[:, :hidden], order[:, hidden:]
    painted = method.decoder(method.encoder.features(batch["x"], keep=keep).tokens, keep, hide)
    painting = 0.0
    for b in range(len(batch)):
        for m, at in enumerate(hide[b].tolist()):
            y, x = patch * (at // grid), patch * (at % grid)
            want = batch["x"][b, :, y : y + patch, x : x + patch].flatten().double()
            want = (want - want.mean()) / (want.var(unbiased=False) + 1e-6).sqrt()
            painting += float((painted[b, m] - want).square().mean()) / (len(batch) * hidden)
    assert math.isclose(float(out["naming"]), naming, rel_tol=1e-6)
    assert math.isclose(float(out["painting"]), painting, rel_tol=1e-6)
    assert math.isclose(float(out["loss"]), naming + 0.7 * painting, rel_tol=1e-6)


@pytest.mark.parametrize("name", ["supcon", "triplet"])
def test_vits_too(name):
    small = {"hidden": 32, "dim": 16} if name == "supcon" else {"dim": 16}
    encoder = sandbox.small_encoder("tokens")
    method = setup.build_method(find(name), encoder, sandbox.source(), 32, small).train()
    loss = method.loss(sandbox.one_batch(method), 0.5)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


# ---- several processes ----

PARTLY = '''"""The method with a fourth of the labels unknown."""

from tapetum.methods import find
from tapetum.views import Batch


class Partly(find("NAME")):
    def loss(self, batch, t):
        label = batch["label"].masked_fill(batch["index"] < 16, -1)
        return super().loss(Batch({**batch, "label": label}, batch.draw, batch.geometry), t)
'''


def test_unknown_labels_weigh_the_same_on_two_processes(tmp_path):
    """Of whose images unequal numbers have a label."""
    files = [tmp_path / f"{name}.py" for name in ("supervised", "triplet", "supervised_mim")]
    for file in files:
        file.write_text(PARTLY.replace("NAME", file.stem))
    index = random.order(0, 0, alike.IMAGES)[: sandbox.BATCH]
    assert len({int((half < 16).sum()) for half in index.chunk(2)}) == 2
    assert alike.wrong(list(map(str, files))) == {}
