"""Training that goes on from weights: what stands still, what waits, what stays close, and a warning."""

import pytest
import torch
from torch.nn import functional as F

import small_runs
import tapetum
from tapetum import encoders
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_lines
from tapetum.encoders.layers import freeze, layers
from tapetum.methods import find
from tapetum.train import online, optimizer, sandbox
from tapetum.train.anchor import anchored
from tapetum.train.loop import fit
from tapetum.train.optimizer import OptimizerSettings


def pretrain(out, **settings):
    given = {**small_runs.SMALL, "logger": [], "steps": 6, **settings}
    return tapetum.pretrain(sandbox.easy_images(48)[0], out=str(out), **given)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A run to go on from."""
    folder = tmp_path_factory.mktemp("start") / "run"
    pretrain(folder)
    return folder


def test_each_layer_learns_at_a_share_of_the_rate_of_the_one_behind_it():
    method = sandbox.build(find("mae"))
    settings = OptimizerSettings(lr=1.0, layer_decay=0.5, warmup=0.0, lr_scale="norm=0.1")
    opt = optimizer.build(method, settings, 1.0)
    optimizer.set_rates(opt, method, settings, 1.0, 0.0)
    rates = {id(p): group["lr"] for group in opt.param_groups for p in group["params"]}
    names = {name: rates[id(p)] for name, p in method.named_parameters() if p.requires_grad}
    depth = len(layers(method.encoder.net))
    assert names["encoder.net.patch_embed.proj.weight"] == pytest.approx(0.5 ** (depth - 1))
    assert names["encoder.net.blocks.1.attn.qkv.weight"] == pytest.approx(1.0)
    assert names["encoder.net.blocks.0.attn.qkv.weight"] == pytest.approx(0.5)
    assert names["encoder.net.blocks.0.norm1.weight"] == pytest.approx(0.05)
    assert names["decoder.enter.weight"] == 1.0


def test_frozen_layers_neither_learn_nor_count_statistics():
    method = sandbox.build(find("simclr"))
    freeze(method.encoder.net, 2)
    still = {name for names in layers(method.encoder.net)[:2] for name in names}
    before = sandbox.state(method.encoder.net)
    sandbox.train(method, 3)
    changed = set(sandbox.changed(before, sandbox.state(method.encoder.net)))
    parts = {name.rpartition(".")[0] for name in still}
    assert changed and not changed & still
    assert not {name for name in changed if name.rpartition(".")[0] in parts}  # nor running means
    with pytest.raises(TapetumError, match=r"frozen_layers is 99, but ResNet has \d+ layers"):
        freeze(method.encoder.net, 99)


def test_the_heads_learn_first():
    method = sandbox.build(find("simclr"))
    settings = OptimizerSettings(lr=1e-2, heads_first=0.5, warmup=0.0)
    opt = optimizer.build(method, settings, 1e-2)
    first = sandbox.state(method)

    def moved():
        return {name.partition(".")[0] for name in sandbox.changed(first, learnt(method))}

    def learnt(method):
        return {**first, **{n: p.detach() for n, p in method.named_parameters()}}

    seen = []
    for _ in fit(method, opt, sandbox.feed(method), steps=10, set_rates=lambda t: optimizer.set_rates(
        opt, method, settings, 1e-2, t)):  # fmt: skip
        seen.append(moved())
    assert seen[5] == {"projector"} and seen[-1] == {"projector", "encoder"}
    assert [settings.begun(t) for t in (0, 0.5, 0.525, 0.55, 1)] == pytest.approx([0, 0, 0.5, 1, 1])


def test_a_run_that_begins_with_weights_fits_its_heads_first(tmp_path, start):
    pretrain(tmp_path / "on", weights=str(start))
    assert "heads_first: 0.05" in (tmp_path / "on" / "config.yaml").read_text()
    assert "heads_first: 0.0" in (start / "config.yaml").read_text()


def test_a_run_whose_heads_learn_first_is_not_called_sick(tmp_path, start):
    pretrain(tmp_path / "on", weights=str(start), steps=60, optimizer_settings={"heads_first": 0.9})
    looks = read_lines(tmp_path / "on" / "health.jsonl")
    assert max(look["step"] for look in looks if look["resting"]) >= 50
    assert "flat" not in [look["verdict"] for look in looks]


def test_a_new_blank_token_does_not_wait_with_the_encoder():
    method = sandbox.build(find("simmim"))
    groups = optimizer.groups(method, OptimizerSettings())
    (blank,) = [g for g in groups if any(p is method.encoder.blank for p in g["params"])]
    assert not blank["waits"]


def test_keep_close_needs_weights(tmp_path):
    with pytest.raises(TapetumError, match="give --weights"):
        pretrain(tmp_path / "run", keep_close=1.0)


def test_what_is_kept_close_begins_where_it_was_although_the_method_changes_the_pooling():
    encoder = encoders.build(
        "vit_tiny_patch16_224", 32, patch_size=8, embed_dim=32, depth=1, num_heads=2, global_pool="token"
    )
    kind = anchored(find("ijepa"), 1.0)
    method = sandbox.setup.build_method(kind, encoder, sandbox.source(), 32, {"width": 32, "depth": 1})
    assert float(method.train().loss(sandbox.one_batch(method), 0.0)["drift"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_patch14_reg4_dinov2"])
def test_registers_belong_to_the_stem(name):
    net = encoders.build(name, 32 if "dinov3" in name else 28, depth=2, embed_dim=64, num_heads=2).net
    found = layers(net)
    assert "reg_token" in found[0] and len(found) == 3
    assert sorted(name for names in found for name in names) == sorted(n for n, _ in net.named_parameters())


def test_what_is_kept_close_is_the_cosine_to_the_features_of_the_beginning():
    kind = anchored(find("mae"), 3.0)
    method = sandbox.build(kind).double().train()
    plain = sandbox.build(find("mae")).double().train()
    batch = sandbox.one_batch(method)
    assert float(method.loss(batch, 0.0)["drift"]) == pytest.approx(0, abs=1e-12)
    with torch.no_grad():
        for p, q in zip(method.encoder.parameters(), plain.encoder.parameters(), strict=True):
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
            q.copy_(p)
    out = method.loss(batch, 0.0)
    was, now = method.began.features(batch["x"]), method.encoder.features(batch["x"])
    gaps = [
        sum(float(1 - F.cosine_similarity(a, b, dim=0)) for a, b in zip(x.flatten(0, -2), y.flatten(0, -2)))
        / x.flatten(0, -2).shape[0]
        for x, y in ((now.vector, was.vector), (now.tokens, was.tokens))
    ]
    assert float(out["drift"]) == pytest.approx(sum(gaps) / 2)
    assert float(out["loss"]) == pytest.approx(float(plain.loss(batch, 0.0)["loss"]) + 3 * sum(gaps) / 2)
    out["loss"].backward()
    assert all(p.grad is None for p in method.began.parameters())


def test_the_weight_holds_the_encoder_back(tmp_path, start):
    x = sandbox.easy_pixels()
    was = online.embed(encoders.load(start), x)
    gaps = {}
    for weight in (0.0, 5.0):
        faster = {"name": "sgd", "lr": 0.1, "clip": 0}
        pretrain(
            tmp_path / str(weight),
            weights=str(start),
            keep_close=weight,
            steps=40,
            optimizer_settings=faster,
        )
        now = online.embed(encoders.load(tmp_path / str(weight)), x)
        gaps[weight] = float((1 - F.cosine_similarity(now, was)).mean())
    assert gaps[5.0] < 0.8 * gaps[0.0], gaps
    rows = read_lines(tmp_path / "5.0" / "metrics.jsonl")
    assert any("drift" in row for row in rows)


def test_it_warns_while_it_stands_below_where_it_began(tmp_path, start, monkeypatch, capsys):
    values = iter([0.9, 0.5, 0.95, 0.95])
    monkeypatch.setattr(online, "look", lambda *_: {"rank": 1.0, "knn": next(values)})
    pretrain(tmp_path / "worse", weights=str(start), steps=9, eval_every=1)
    said = capsys.readouterr()
    assert (said.out + said.err).count("worse than the weights that this run began with") == 1
