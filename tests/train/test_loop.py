"""The loop: micro-batches, what is kept, clipping, rates, and optimisers that learn."""

import copy
import math

import pytest
import torch
from torch import nn

from tapetum import encoders
from tapetum.base import distributed
from tapetum.base.errors import TapetumError
from tapetum.methods import find
from tapetum.methods.method import Method
from tapetum.parts.schedule import Ramp
from tapetum.parts.state import Frozen
from tapetum.train import loop, optimizer, sandbox
from tapetum.train.loop import fit
from tapetum.train.optimizer import NAMES, OptimizerSettings


class Linear(Method):
    """Names the mean colour of an image by a line; remembers which images it saw, in order."""

    def __init__(self, scale: float = 1.0):
        super().__init__(nn.Linear(3, 2))  # type: ignore[arg-type]
        self.views = sandbox.build(find("simclr")).views
        self.scale = scale
        self.kept: list[torch.Tensor] = []

    def loss(self, batch, t):
        x = batch["views"][0].mean((2, 3))
        return {"loss": self.scale * self.encoder(x).square().mean(), "keep": {"index": batch["index"]}}

    def after_step(self, t, keep):
        self.kept.append(keep["index"])


def sgd(method: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(method.parameters(), lr=lr)


@pytest.mark.parametrize("micro", [1, 4, 8])
def test_micro_batches_of_a_vit_are_the_whole_batch(micro):
    whole = sandbox.build(find("mae")).double()
    parts = copy.deepcopy(whole)
    numbers = []
    for method, size in ((whole, 16), (parts, micro)):
        steps = list(fit(method, sgd(method), sandbox.feed(method, micro=size), steps=3))
        numbers.append([{n: float(v) for n, v in step.numbers.items()} for step in steps])
    for (name, one), other in zip(whole.named_parameters(), parts.parameters()):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-12, msg=name)
    for one, other in zip(*numbers):
        assert other == pytest.approx(one, abs=1e-6)  # pixels are float32, whatever the weights


def test_what_is_kept_comes_in_image_order_whatever_the_micro_batches():
    whole, parts = Linear(), Linear()
    for method, micro in ((whole, 16), (parts, 2)):
        list(fit(method, sgd(method), sandbox.feed(method, micro=micro), steps=3))
    assert torch.equal(torch.stack(whole.kept), torch.stack(parts.kept))
    feed = sandbox.feed(whole)
    assert torch.equal(torch.stack(whole.kept), torch.stack([feed.plan(step) for step in range(3)]))


def test_views_are_the_same_bits_for_any_micro_batch():
    method = sandbox.build(find("simclr"))
    whole = next(sandbox.feed(method).batches(5, 6))
    parts = next(sandbox.feed(method, micro=3).batches(5, 6))
    assert len(parts) == 16
    for one, other in zip(
        [*whole["views"], *whole.geometry["views"]], [*parts["views"], *parts.geometry["views"]]
    ):
        assert torch.equal(one, other)
    for name in ("index", "label"):
        assert torch.equal(whole[name], parts[name])


def test_an_epoch_shows_no_image_twice_and_each_epoch_has_its_own_order():
    feed = sandbox.feed(sandbox.build(find("simclr")), batch=24)  # of 64 images, 16 wait for another epoch
    epochs = [torch.cat([feed.plan(step) for step in (2 * e, 2 * e + 1)]) for e in range(3)]
    assert all(len(epoch.unique()) == 48 for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert len(torch.cat(epochs).unique()) > 60


def test_processes_share_a_step_without_overlap(monkeypatch):
    feed = sandbox.feed(sandbox.build(find("simclr")), micro=4)
    whole = sandbox.feed(sandbox.build(find("simclr")), micro=16).plan(3)
    shares = []
    monkeypatch.setattr("tapetum.base.distributed.world", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr("tapetum.base.distributed.rank", lambda rank=rank: rank)
        shares.append(feed.plan(3))
    assert torch.equal(torch.cat(shares), whole)


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_the_whole_gradient_is_clipped(clip):
    method = Linear(scale=100.0)
    before = [p.detach().clone() for p in method.parameters()]
    (step,) = fit(method, sgd(method, lr=1.0), sandbox.feed(method), steps=1, clip=clip)
    moved = math.sqrt(
        sum(float((p - b).detach().square().sum()) for p, b in zip(method.parameters(), before))
    )
    norm = float(step.numbers["gradient_norm"])
    assert norm > 1
    assert moved == pytest.approx(clip or norm, rel=1e-4)


def test_what_overflows_in_another_process_is_not_taken_here(monkeypatch):
    weight = nn.Parameter(torch.ones(3))
    opt, scaler = torch.optim.SGD([weight], lr=0.1), torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(weight.sum()).backward()
    monkeypatch.setattr(distributed, "average_gradients", lambda ps: [p.grad.fill_(torch.inf) for p in ps])
    loop._update(opt, [weight], 1.0, scaler, torch.tensor(1.0))
    assert torch.equal(weight, torch.ones(3)) and scaler.get_scale() == 2.0


def test_dropout_is_a_function_of_the_step():
    def losses(start: int) -> list[float]:
        torch.manual_seed(0)
        encoder = encoders.build("resnet10_w32", 32, channels=(8, 16, 32, 64), drop_path_rate=0.5)
        method = sandbox.setup.build_method(
            find("simclr"), encoder, sandbox.source(), 32, {"hidden": 16, "dim": 8}
        )
        still = torch.optim.SGD(method.parameters(), lr=0.0)
        return [
            float(step.numbers["loss"])
            for step in fit(method, still, sandbox.feed(method), steps=4, start=start)
        ]

    assert losses(2) == losses(0)[2:]


def test_norms_and_biases_and_what_the_encoder_names_never_decay():
    method = sandbox.build(find("mae"))
    decayed = {
        id(p) for g in optimizer.groups(method, OptimizerSettings()) if g["decays"] for p in g["params"]
    }
    every = [id(p) for g in optimizer.groups(method, OptimizerSettings()) for p in g["params"]]
    learning = {name: p for name, p in method.named_parameters() if p.requires_grad}
    assert sorted(every) == sorted(map(id, learning.values()))  # each parameter in one group
    for name, p in learning.items():
        spared = p.ndim < 2 or "pos_embed" in name or "cls_token" in name
        if name.startswith("encoder."):
            assert (id(p) in decayed) is not spared, name
        elif p.ndim < 2:
            assert id(p) not in decayed, name
    assert any("pos_embed" in name for name in learning)


def test_each_group_gets_its_rate():
    method = sandbox.build(find("simclr"))
    method.rates = ((r"projector\..*weight", lambda t: 1 - t),)
    settings = OptimizerSettings(lr=1.0, lr_scale="encoder=0.1", warmup=0.2, weight_decay=Ramp(0.0, 1.0))
    opt = optimizer.build(method, settings, 1.0)
    optimizer.set_rates(opt, method, settings, 1.0, 0.6)
    assert settings.rate(0.6, 1.0) == pytest.approx(0.5)
    names = {id(p): name for name, p in method.named_parameters()}
    for group in opt.param_groups:
        for p in group["params"]:
            name = names[id(p)]
            share = 0.1 if "encoder" in name else 0.4 if "weight" in name else 1.0
            assert group["lr"] == pytest.approx(0.5 * share), name
            assert group["weight_decay"] == (settings.decay(0.6) if p.ndim > 1 else 0.0), name


def test_the_rate_climbs_and_falls_along_a_cosine():
    settings = OptimizerSettings(warmup=0.1, final=0.01)
    rates = [settings.rate(t, 2.0) for t in (0.0, 0.05, 0.1, 0.55, 1.0)]
    assert rates == pytest.approx([0.0, 1.0, 2.0, 2 * 0.505, 0.02])
    assert OptimizerSettings(warmup=0.0).rate(0.0, 2.0) == 2.0
    assert OptimizerSettings(warmup=1.0).rate(1.0, 2.0) == pytest.approx(2.0)


def test_the_usual_decay_is_the_optimisers_own():
    assert [OptimizerSettings(name=name).decay(0.5) for name in ("adamw", "muon", "sgd")] == [
        0.05,
        0.05,
        5e-4,
    ]
    assert OptimizerSettings(name="sgd", weight_decay=Ramp(0.0, 0.1)).decay(1.0) == 0.1


def test_usual_rates_grow_with_the_batch():
    assert OptimizerSettings(name="sgd").peak(1024) == pytest.approx(
        4 * OptimizerSettings(name="sgd").peak(256)
    )
    assert OptimizerSettings().peak(1024) == pytest.approx(2 * OptimizerSettings().peak(256))
    assert OptimizerSettings(lr=0.3).peak(1024) == 0.3


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_learns_and_goes_on_bit_equal(name, tmp_path):
    from tapetum.train import checkpoint, contents

    settings = OptimizerSettings(name=name, lr=1.0 if name == "lars" else 0.02)

    def fresh() -> tuple[Method, torch.optim.Optimizer]:
        method = sandbox.build(find("supervised"))
        return method, optimizer.build(method, settings, settings.peak(16))

    def run(method: Method, opt: torch.optim.Optimizer, start: int, end: int) -> list[float]:
        seen = []
        rates = lambda t: optimizer.set_rates(opt, method, settings, settings.peak(16), t)  # noqa: E731
        for step in fit(method, opt, sandbox.feed(method), steps=24, start=start, set_rates=rates, clip=3.0):
            seen.append(float(step.numbers["loss"]))
            if step.number == end:
                break
        return seen

    method, opt = fresh()
    losses = run(method, opt, 0, 24)
    assert sum(losses[-4:]) < 0.95 * sum(losses[:4])

    begun, begun_opt = fresh()
    run(begun, begun_opt, 0, 10)
    path = checkpoint.save(tmp_path, 10, begun, begun_opt, {}, keep=2)
    other, other_opt = fresh()
    found = checkpoint.newest(tmp_path)
    assert found and found[0] == path
    contents.restore(*found, other, other_opt)
    assert run(other, other_opt, 10, 24) == losses[10:]
    assert sandbox.changed(sandbox.state(method), sandbox.state(other)) == []


def test_lamb_is_clipped_by_the_loop_alone():
    method = sandbox.build(find("simclr"))
    opt = optimizer.build(method, OptimizerSettings(name="lamb", clip=0.0), 1.0)
    assert all(group["max_grad_norm"] is None for group in opt.param_groups)


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"warmup": 2.0}, {"clip": -1.0}, {"lr_scale": "encoder"}, {"lr_scale": "(=1"}]
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(TapetumError, match=f"optimizer.{next(iter(wrong))}"):
        OptimizerSettings(**wrong).scales()


class Surveys(Method):
    """Embeds all images before every epoch."""

    def __init__(self, encoder):
        super().__init__(encoder)
        self.views = sandbox.build(find("simclr")).views
        self.seen: list[tuple[float, torch.Tensor]] = []

    def before_epoch(self, t, over):
        self.seen.append((t, over(lambda x: torch.cat([self.encoder(x), x.mean((2, 3))], 1))))

    def loss(self, batch, t):
        assert self.encoder.training
        return {"loss": self.encoder(batch["views"][0]).square().mean()}


def test_before_every_epoch_all_images_can_be_seen_whole_and_in_order():
    method = Surveys(sandbox.small_encoder("vector")).train()
    want = copy.deepcopy(method.encoder).eval()(sandbox.easy_pixels().float() / 255)
    feed = sandbox.feed(method, micro=8)
    list(fit(method, sgd(method, 0.0), feed, steps=2 * feed.steps_per_epoch + 1, start=1))
    assert [t for t, _ in method.seen] == [4 / 9, 8 / 9]  # going on within an epoch does not survey it again
    list(fit(method, sgd(method, 0.0), feed, steps=1))
    fresh = Surveys(sandbox.small_encoder("vector"))
    list(fit(fresh, sgd(fresh, 0.0), feed, steps=1))
    (_, seen) = fresh.seen[0]
    torch.testing.assert_close(seen[:, :-3], want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen[:, -3:], (sandbox.easy_pixels().float() / 255).mean((2, 3)))
    assert all(part.training for part in fresh.modules())


class Taught(Method):
    """Learns what a given encoder says."""

    def __init__(self, encoder, *, teacher: encoders.Encoder | None = None):
        super().__init__(encoder)
        self.views = sandbox.build(find("simclr")).views
        self.teacher = Frozen(teacher or encoder)

    def loss(self, batch, t):
        x = batch["views"][0]
        return {"loss": (self.encoder(x) - self.teacher(x)).square().mean()}


def test_a_setting_that_is_an_encoder_is_loaded_from_its_name(tmp_path):
    given = sandbox.small_encoder("vector", seed=5)
    given.save(tmp_path)
    method = sandbox.build(Taught, teacher=str(tmp_path))
    assert method.teacher.module.digest() == given.digest()
    assert sandbox.build(Taught, teacher=given).teacher.module.digest() == given.digest()
    assert sandbox.build(Taught).teacher.module.digest() == method.encoder.digest()
    with pytest.raises(TapetumError, match="no encoder nowhere"):
        sandbox.build(Taught, teacher="nowhere")
    with pytest.raises(TapetumError, match="must be a run, an encoder's file, or timm:NAME"):
        sandbox.build(Taught, teacher=[3])
