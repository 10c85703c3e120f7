"""What tests of methods share: a small method in float64 and a batch for it."""

from typing import Any

import torch

from tapetum.methods import find
from tapetum.methods.method import Method
from tapetum.train import sandbox
from tapetum.views import Batch


def prepared(name: str, **settings: Any) -> tuple[Method, Batch]:
    """A small method in float64 and train mode, and the first batch of the easy images for it."""
    method = sandbox.build(find(name), **settings).double().train()
    return method, sandbox.one_batch(method)


def train_apart(method: Method) -> None:
    """Train until teacher and student differ: for two steps, as the rate of the first is zero."""
    sandbox.train(method, 2)
    pairs = zip(method.teacher.chain[0].parameters(), method.encoder.parameters(), strict=True)
    assert not all(torch.equal(slow, fast) for slow, fast in pairs)
