"""Which methods give in micro-batches what they give in one batch, and that all of them train so."""

import math

import pytest
import torch

from tapetum.methods import find, names
from tapetum.train import optimizer, sandbox
from tapetum.train.loop import fit
from tapetum.train.optimizer import OptimizerSettings

# Neither batch norm nor a loss over the batch: these allow accumulation.
EXACT = {"beit", "data2vec", "data2vec2", "dbot", "ibot", "igpt", "ijepa", "mae", "maskfeat", "nepa"}
EXACT |= {"self_distillation", "simmim", "supervised_mim"}  # the last where all labels are known


def after(name: str, micro: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    """All that a method holds after two steps of 16 images in float64, and its losses."""
    method = sandbox.build(find(name)).double()
    settings = OptimizerSettings(lr=1e-3, warmup=0.1)
    opt = optimizer.build(method, settings, 1e-3)
    steps = fit(method, opt, sandbox.feed(method, micro=micro), steps=2)
    losses = [float(step.numbers["loss"]) for step in steps]
    return sandbox.state(method), losses


@pytest.mark.parametrize("name", names())
def test_micro_batches(name):
    (whole, _), (parts, losses) = after(name, 16), after(name, 4)
    assert all(map(math.isfinite, losses))
    apart = max(float((whole[n].double() - parts[n].double()).abs().max()) for n in whole)
    assert (apart < 1e-9) == (name in EXACT), f"{name} differs by {apart:.2g}"
