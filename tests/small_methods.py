"""What tests of methods share: a small method in float64 and a batch for it."""

from typing import Any

from tapetum.methods import find
from tapetum.methods.method import Method
from tapetum.train import sandbox
from tapetum.views import Batch


def prepared(name: str, **settings: Any) -> tuple[Method, Batch]:
    """A small method in float64 and train mode, and the first batch of the easy images for it."""
    method = sandbox.build(find(name), **settings).double().train()
    return method, sandbox.one_batch(method)
