"""Compiled blocks give what plain ones give, in every way that a method asks an encoder."""

import pytest
import torch

import tapetum
from tapetum import encoders
from tapetum.base.files import read_lines
from tapetum.methods import find
from tapetum.train import sandbox
from tapetum.train.blocks import blocks
from tapetum.train.compiled import compile_blocks


@pytest.mark.parametrize(
    "name, settings, count",
    [
        ("resnet18", {}, 8),
        ("resnet10_w32", {}, 4),
        ("vit_tiny_patch16_224", {"depth": 3}, 3),
        ("convnext_atto", {}, 12),
        ("tf_efficientnet_lite0", {}, 16),
    ],
)
def test_blocks_are_what_repeats(name, settings, count):
    found = blocks(encoders.build(name, 64, **settings).net)
    assert len(found) == len(set(found)) == count


# Maps of a ResNet, crops of two sizes with a teacher, kept patches, a causal mask, hidden patches.
@pytest.mark.parametrize("name", ["simclr", "dino", "mae", "igpt", "ibot"])
def test_loss_gradients_and_names_stay(name):
    plain, compiled = (sandbox.build(find(name)).double() for _ in range(2))
    assert compile_blocks(compiled, backend="aot_eager") > 0
    batch = sandbox.one_batch(plain)
    losses = [method.loss(batch, 0.5)["loss"] for method in (plain, compiled)]
    for loss in losses:
        loss.backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-12)
    assert list(plain.state_dict()) == list(compiled.state_dict())
    for (n, p), q in zip(plain.named_parameters(), compiled.parameters()):
        assert (p.grad is None) == (q.grad is None), n
        if p.grad is not None:
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-9, atol=1e-12)


def test_a_run_is_compiled_where_asked(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("tapetum.train.setup.compile_blocks", asked.append)
    images = sandbox.easy_images(16)[0]
    small = {"encoder": "resnet10_w32", "encoder_settings": {"channels": [8, 8, 8, 8]}, "image_size": 32}
    for compiled in (False, True):
        out = tmp_path / str(compiled)
        tapetum.pretrain(images, out=str(out), steps=1, batch_size=8, compile=compiled, **small)
        assert len(asked) == compiled
        assert f"compile: {str(compiled).lower()}" in (out / "config.yaml").read_text()
        assert read_lines(out / "metrics.jsonl")[-1]["step"] == 1
