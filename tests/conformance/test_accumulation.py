"""Every method gives in micro-batches what it gives in one batch; what does not is named, with the reason."""

import math

import pytest
import torch

from tapetum import encoders
from tapetum.encoders.chunks import mixes
from tapetum.methods import find, names
from tapetum.train import optimizer, sandbox
from tapetum.train.loop import fit
from tapetum.train.optimizer import OptimizerSettings

INEXACT = {"spark"}  # whose decoder, which takes micro-batches, has batch norm


def without_batch_norm(needs: str, seed: int = 0) -> encoders.Encoder:
    """A small encoder in which images of a batch do not see each other."""
    torch.manual_seed(seed)
    if needs == "tokens":
        return encoders.build("vit_tiny_patch16_224", 32, patch_size=8, embed_dim=32, depth=2, num_heads=2)
    return encoders.build("resnet10_w32", 32, channels=(8, 16, 32, 64), norm_layer="layernorm2d")


def after(name: str, micro: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    """All that a method holds after two steps of 16 images in float64, and its losses."""
    method = sandbox.build(find(name)).double()
    assert mixes(method) == (name in INEXACT)
    settings = OptimizerSettings(name="sgd", lr=0.01)  # Adam makes steps of gradients that are only rounding
    opt = optimizer.build(method, settings, 0.01)
    steps = fit(method, opt, sandbox.feed(method, micro=micro), steps=2)
    losses = [float(step.numbers["loss"]) for step in steps]
    return sandbox.state(method), losses


@pytest.mark.parametrize("name", names())
def test_micro_batches(name, monkeypatch):
    monkeypatch.setattr(sandbox, "small_encoder", without_batch_norm)
    (whole, once), (parts, losses) = after(name, 16), after(name, 4)
    assert all(map(math.isfinite, losses))
    apart = max(float((whole[n].double() - parts[n].double()).abs().max()) for n in whole)
    apart = max(apart, *(abs(a - b) for a, b in zip(once, losses)))
    assert (apart < 1e-9) == (name not in INEXACT), f"{name} differs by {apart:.2g}"
