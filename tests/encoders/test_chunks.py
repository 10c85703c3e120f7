"""A batch in chunks is the whole batch: loss, gradients, statistics and dropout; and it holds less memory."""

import copy

import pytest
import torch

from tapetum import encoders
from tapetum.base.rows import joined
from tapetum.data import open_data
from tapetum.data.canvas import Canvas
from tapetum.encoders.chunks import Chunked, by_chunks, in_chunks, mixes
from tapetum.methods import find
from tapetum.train import sandbox
from tapetum.train.feed import Feed
from tapetum.train.loop import fit
from tapetum.views.sample import Bent


def calm_resnet() -> encoders.Encoder:
    torch.manual_seed(0)
    return encoders.build("resnet10_w32", 32, channels=(8, 8, 16, 16), norm_layer="layernorm2d")


def vit(**settings) -> encoders.Encoder:
    torch.manual_seed(0)
    return encoders.build(
        "vit_tiny_patch16_224", 32, patch_size=8, embed_dim=32, depth=2, num_heads=2, **settings
    )


def simclr(monkeypatch, encoder):
    monkeypatch.setattr(sandbox, "small_encoder", lambda needs, seed: encoder)
    return sandbox.build(find("simclr")).double().train()


def gradients(method) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(
        (one.detach().double() - other.detach().double()).norm()
        / one.detach().double().norm().clamp(min=1e-12)
    )


def test_simclr_at_4_times_64_is_that_at_256(monkeypatch):
    whole = simclr(monkeypatch, calm_resnet())
    parts = copy.deepcopy(whole)
    feed = Feed(
        Canvas(open_data(sandbox.easy_images(256)[0]), 32, workers=0),
        None,
        whole.views,
        image_size=32,
        batch_size=256,
        micro_batch=64,
        seed=0,
        device=torch.device("cpu"),
    )
    batch = next(feed.batches(0, 1))
    seen = []
    for method, size in ((whole, None), (parts, 64)):
        with in_chunks(method, size):
            loss = method.loss(batch, 0.0)["loss"]
            loss.backward()
        seen.append((loss.detach(), gradients(method), dict(method.named_buffers())))
    (loss, slopes, buffers), (other, own, held) = seen
    assert apart(loss, other) < 1e-9 and len(slopes) == len(own) > 20
    assert max(apart(slopes[name], own[name]) for name in slopes) < 1e-9
    assert max(apart(buffers[name], held[name]) for name in buffers) < 1e-9
    with in_chunks(parts, 64):  # and the sum of micro-batches, each with its own negatives, is far from it
        alone = [
            parts.loss(feed.batch(0, i, *feed.canvas.fetch(i)), 0.0)["loss"] for i in feed.plan(0).split(64)
        ]
    assert apart(loss, torch.stack(alone).mean()) > 0.1


@pytest.mark.parametrize(
    "makes", [lambda: vit(drop_path_rate=0.5, proj_drop_rate=0.3), sandbox.small_encoder]
)
def test_what_is_computed_again_drops_the_same_and_counts_nothing_twice(makes):
    encoder = makes("vector") if makes is sandbox.small_encoder else makes()
    encoder, x = encoder.train(), torch.rand(10, 3, 32, 32)
    plain = copy.deepcopy(encoder)
    torch.manual_seed(3)
    with in_chunks(encoder, 4):
        y = encoder(x)
        y.square().sum().backward()
    torch.manual_seed(3)
    z = torch.cat([plain(part) for part in (x[:3], x[3:6], x[6:])])  # as even as can be
    z.square().sum().backward()
    assert torch.equal(y, z)
    for (name, p), other in zip(encoder.named_parameters(), plain.parameters()):
        torch.testing.assert_close(p.grad, other.grad, rtol=1e-5, atol=1e-6, msg=name)
    for (name, one), other in zip(encoder.named_buffers(), plain.buffers()):
        assert torch.equal(one, other), name
    assert encoder.chunk is None and mixes(encoder) == (makes is sandbox.small_encoder)


def test_all_that_an_encoder_gives_and_takes_goes_in_chunks():
    encoder, x = vit().double(), torch.rand(6, 3, 32, 32)
    encoder.add_blank()
    keep = torch.rand(6, 16).argsort(1)[:, :5]
    for given in (
        {"keep": keep},
        {"hide": torch.rand(6, 16) < 0.5},
        {"causal": torch.arange(6)},
        {"layers": [0, 1]},
    ):
        want = encoder.features(x, **given)
        with in_chunks(encoder, 4), torch.no_grad():
            got = encoder.features(x, **given)
        assert got.maps is None and len(got.layers) == len(want.layers)
        pairs = [(got.vector, want.vector), (got.tokens, want.tokens), *zip(got.layers, want.layers)]
        for one, other in pairs:
            torch.testing.assert_close(one.double(), other.double(), rtol=0, atol=1e-12)


def test_the_micro_batch_may_change_between_two_steps(monkeypatch):
    whole = simclr(monkeypatch, calm_resnet())
    parts = copy.deepcopy(whole)
    feed = sandbox.feed(parts)
    for method, own in ((whole, sandbox.feed(whole)), (parts, feed)):
        for step in fit(method, torch.optim.SGD(method.parameters(), lr=0.1), own, steps=3):
            feed.micro_batch = {1: 8, 2: 3}.get(step.number, 16)
    for one, other in zip(whole.parameters(), parts.parameters()):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)  # views are float32


def test_rows_of_nests_are_joined_as_they_are():
    made = [
        ({"a": [torch.full((n, 2), n)]}, Bent(torch.ones(n, 3, 3), torch.zeros(n, 1)), None) for n in (1, 2)
    ]
    views, bent, nothing = joined(made)
    assert views["a"][0].tolist() == [[1, 1], [2, 2], [2, 2]] and nothing is None
    assert isinstance(bent, Bent) and bent.transforms.shape == (3, 3, 3) and bent.field.shape == (3, 1)


def test_the_backward_pass_is_done_with_a_chunk_before_it_computes_the_next():
    net, seen = Chunked(), []
    net.weight = torch.nn.Parameter(torch.ones(3))

    def f(x):
        first = int(x[0, 0])
        seen.append(("computed", first))
        y = x * net.weight
        y.register_hook(lambda gradient: seen.append(("done", first)))
        return y * y  # needs y again

    with in_chunks(net, 4):
        by_chunks(net, f, torch.arange(12.0)[:, None].expand(-1, 3)).sum().backward()
    assert seen[:3] == [("computed", 0), ("computed", 4), ("computed", 8)]
    assert seen[3:] == [(word, first) for first in (8, 4, 0) for word in ("computed", "done")]
