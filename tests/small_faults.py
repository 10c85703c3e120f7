"""Faults put into training at chosen steps: losses and gradients that are no numbers, memory, disks."""

import contextlib
import errno
import os
import resource
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import small_runs
import tapetum
from run_files import contents, rows
from tapetum.encoders import Encoder
from tapetum.methods import find
from tapetum.train import sandbox

TINY: dict[str, Any] = {
    **small_runs.SMALL,
    "encoder_settings": {"channels": [4, 4, 8, 8]},
    "method_settings": {"hidden": 8, "dim": 4},
    "optimizer_settings": {"warmup": 0.0},
    "batch_size": 8,
    "eval_every": 10**6,
    "devices": "cpu",
    "workers": 1,
    "seed": 3,
}


class Killed(BaseException):
    """As if the process had been killed: nothing in training catches it."""


def pixels(count: int = 24) -> np.ndarray:
    return sandbox.easy_images(count)[0]


def pretrain(out: Any, data: Any = None, **settings: Any) -> dict[str, Any]:
    """A run of eight steps of eight images, all in this process."""
    given = {"steps": 8, **TINY, **settings}
    return tapetum.pretrain(pixels() if data is None else data, out=str(out), **given)


def resumed(out: Any, data: Any = None, **settings: Any) -> dict[str, Any]:
    return tapetum.pretrain(pixels() if data is None else data, resume=str(out), **settings)


def killed_at(step: int, time: int = 1) -> Callable[[int, dict], None]:
    """A logger for `pretrain` that kills the run when it logs that step for the first or another time."""
    seen: list[int] = []

    def log(at: int, numbers: dict) -> None:
        if "loss" in numbers:
            seen.append(at)
            if at == step and seen.count(at) == time:
                raise Killed

    return log


def assert_same(run: Any, wanted: Any) -> None:
    """Two runs hold the same bits, numbers and mishaps."""
    assert rows(run) == rows(wanted)
    one, other = contents(run), contents(wanted)
    assert one.keys() == other.keys() and [name for name in one if one[name] != other[name]] == []
    assert rows(run, "mishaps.jsonl") == rows(wanted, "mishaps.jsonl")


# ---- steps ----

Spoil = Callable[[torch.Tensor], torch.Tensor]
SPOILT: dict[str, Spoil] = {
    "a loss that is no number": lambda loss: loss * float("nan"),
    "an infinite loss": lambda loss: loss / 0,
    "a loss that is minus infinity": lambda loss: -loss / 0,
    "an infinite loss with finite gradients": lambda loss: loss + float("inf"),
    "a loss of no number with finite gradients": lambda loss: loss + float("nan"),
    "a gradient that is no number": lambda loss: loss + (0 * loss).sqrt(),
    "an infinite gradient": lambda loss: loss + (loss - loss.detach()).sqrt(),
}


def spoilt(patch: pytest.MonkeyPatch, name: str, spoil: Spoil, when: Callable[[float], bool]) -> None:
    """Spoil a method's loss at some times t."""
    kind = find(name)
    loss = kind.loss

    def wrong(self: Any, batch: Any, t: float) -> dict[str, Any]:
        said = loss(self, batch, t)
        return {**said, "loss": spoil(said["loss"])} if when(t) else said

    patch.setattr(kind, "loss", wrong)


def crowded(
    patch: pytest.MonkeyPatch,
    most: int,
    error: Callable[[], Exception],
    when: Callable[[], bool] = lambda: True,
) -> None:
    """Let encoders run out of memory in training when more than `most` images go through at once."""
    given = Encoder._features

    def wrong(self: Encoder, x: torch.Tensor, *rest: Any) -> Any:
        if len(x) > most and torch.is_grad_enabled() and when():
            raise error()
        return given(self, x, *rest)

    patch.setattr(Encoder, "_features", wrong)


# ---- the disk ----


@contextlib.contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes; the system itself refuses."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
