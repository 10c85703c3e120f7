"""The template with its slots filled is each of the methods that it was made of: loss, gradients, teacher."""

import math

import pytest
import torch
from torch.nn import functional as F

from small_methods import prepared, train_apart
from tapetum.base.errors import TapetumError
from tapetum.parts.losses import nt_xent
from tapetum.train import sandbox

SLOTS = {
    "simclr": {"policy": "simclr", "loss": "nt_xent"},
    "byol": {
        "policy": "byol",
        "loss": "distance",
        "predictor": "mlp",
        "teacher": "ema",
        "together": False,
        "last_norm": False,
    },
    "simsiam": {
        "policy": "moco_v2",
        "loss": "cosine",
        "predictor": "mlp",
        "teacher": "stop",
        "together": False,
        "layers": 3,
    },
    "vicreg": {"policy": "vicreg", "loss": "vicreg", "together": False, "layers": 3, "last_norm": False},
    "barlow_twins": {
        "policy": "byol",
        "loss": "barlow_twins",
        "together": False,
        "layers": 3,
        "last_norm": False,
    },
}


@pytest.mark.parametrize("name", SLOTS)
def test_it_is(name):
    method, batch = prepared(name)
    template, own = prepared("template", **SLOTS[name])
    template.load_state_dict(method.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(batch["views"], own["views"]))  # the same views
    for _ in range(2):  # before and after teacher and student differ
        losses = [m.loss(batch, 0.3)["loss"] for m in (method, template)]
        torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
        for m, loss in zip((method, template), losses):
            m.zero_grad()
            loss.backward()
        theirs, ours = dict(method.named_parameters()), dict(template.named_parameters())
        assert theirs.keys() == ours.keys()
        for n, p in theirs.items():
            if p.requires_grad:
                torch.testing.assert_close(ours[n].grad, p.grad, rtol=1e-9, atol=1e-12)
        for m in (method, template):
            train_apart(m) if name == "byol" else sandbox.train(m, 2)
        for n, tensor in method.state_dict().items():
            torch.testing.assert_close(template.state_dict()[n], tensor, rtol=1e-7, atol=1e-9)
        template.load_state_dict(method.state_dict())


def test_contrast_with_a_teacher_and_a_predictor():
    """Each said vector meets both targets of all other images and its own image's other view."""
    method, batch = prepared("template", predictor="mlp", teacher="ema", together=False, temperature=0.3)
    train_apart(method)
    loss = float(method.loss(batch, 0.0)["loss"])
    said = torch.cat([method.predictor(method.projector(method.encoder(x))) for x in batch["views"]])
    target = torch.cat([method.teacher(x) for x in batch["views"]])
    said, target = F.normalize(said, dim=1), F.normalize(target, dim=1)
    n, total = len(batch), 0.0
    for i in range(2 * n):
        score = [math.exp(float(said[i] @ target[k]) / 0.3) if k != i else 0.0 for k in range(2 * n)]
        total -= math.log(score[(i + n) % (2 * n)] / sum(score)) / (2 * n)
    assert math.isclose(loss, total, rel_tol=1e-9)


def test_targets_that_are_the_rows_themselves_change_nothing():
    z, ids = torch.randn(8, 4, dtype=torch.float64), torch.arange(4).repeat(2)
    assert torch.equal(nt_xent(z, ids, 0.1), nt_xent(z, ids, 0.1, z))


@pytest.mark.parametrize("teacher", ["none", "stop", "ema"])
def test_who_gives_the_target_decides_what_gets_a_gradient(teacher):
    method, batch = prepared("template", loss="cosine", predictor="mlp", teacher=teacher, together=False)
    z = [method.projector(method.encoder(x)) for x in batch["views"]]
    said = [method.predictor(x) for x in z]
    target = z if teacher == "none" else [x.detach() for x in z]  # ema: equal weights at first
    want = -sum(F.cosine_similarity(p, q).mean() for p, q in zip(said, target[::-1])) / 2
    own = [p for p in method.parameters() if p.requires_grad]
    ours = torch.autograd.grad(method.loss(batch, 0.0)["loss"], own)
    for a, b in zip(ours, torch.autograd.grad(want, own)):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_a_slot_that_is_not_there_is_refused():
    with pytest.raises(TapetumError, match=r"loss is 'nt_xnt'; did you mean nt_xent\?"):
        prepared("template", loss="nt_xnt")
