"""Kinds of runs for the health report: healthy ones, and ones made sick on purpose in a known way."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import tapetum
from benchmarks import rows
from tapetum.base import random
from tapetum.base.errors import TrainingFailed
from tapetum.base.files import read_lines
from tapetum.data import Source, canvas, open_data
from tapetum.train.feed import Feed
from tapetum.views.nest import tensors

SMALL: dict[str, Any] = {
    "image_size": 32,
    "batch_size": 64,
    "steps": 200,
    "precision": "fp32",
    "log_every": 50,
    "eval_every": 100,
    "devices": "cpu",
    "workers": 0,
    "logger": [],
    "encoder": "resnet10_w32",
    "encoder_settings": {"channels": [16, 32, 64, 128]},
}
SIMCLR: dict[str, Any] = {
    "method": "simclr",
    "method_settings": {"hidden": 256, "dim": 64, "temperature": 0.2},
    "optimizer_settings": {"lr": 1e-3},
}
BYOL: dict[str, Any] = {
    "method": "byol",
    "method_settings": {"hidden": 256, "dim": 64, "momentum": "0.98->1"},
    "optimizer_settings": {"name": "sgd", "lr": 0.1},
}
DINO: dict[str, Any] = {
    "method": "dino",
    "method_settings": {
        "small_crops": 2,
        "hidden": 256,
        "dim": 64,
        "prototypes": 256,
        "momentum": "0.98->1",
        "teacher_temperature": 0.015,
        "batch_norm": True,
    },
    "optimizer_settings": {"name": "sgd", "lr": 0.3},
}
MAE: dict[str, Any] = {
    "method": "mae",
    "method_settings": {"width": 64, "depth": 1},
    "optimizer_settings": {"lr": 2e-3},
    "encoder": "vit_tiny_patch16_224",
    "encoder_settings": {"patch_size": 4, "embed_dim": 96, "depth": 4, "num_heads": 3},
}
SUPERVISED: dict[str, Any] = {"method": "supervised", "optimizer_settings": {"lr": 2e-3}}

NO_PREDICTOR = '''"""BYOL whose predictor is left out."""
from functools import wraps
from torch import nn
from tapetum.methods.distill.byol import BYOL

class NoPredictor(BYOL):
    @wraps(BYOL.__init__)
    def __init__(self, encoder, **settings):
        super().__init__(encoder, **settings)
        self.predictor = nn.Identity()
'''
NO_CENTRE = '''"""DINO whose centre stays at nought."""
from tapetum.methods.distill.dino import DINO

class NoCentre(DINO):
    def after_step(self, t, keep):
        self.teacher.follow(self.momentum(t), self.encoder, self.projector)
'''
SHUFFLED_TEACHER = '''"""BYOL whose teacher's answers are given to other images."""
from tapetum.methods.distill.byol import BYOL
from tapetum.parts.losses import across, cosine_distance

class Shuffled(BYOL):
    def loss(self, batch, t):
        said = [self.predictor(self.projector(self.encoder(x))) for x in batch["views"]]
        order = batch.random("shuffle").argsort()
        return {"loss": across(cosine_distance, said, [self.teacher(x)[order] for x in batch["views"]])}
'''
FROZEN = '''"""SimCLR whose encoder does not learn."""
from functools import wraps
from tapetum.methods.contrastive.simclr import SimCLR

class Frozen(SimCLR):
    @wraps(SimCLR.__init__)
    def __init__(self, encoder, **settings):
        super().__init__(encoder, **settings)
        self.encoder.requires_grad_(False)
'''


@dataclass(frozen=True)
class Case:
    """A kind of run: the words that name it rightly, its settings, and what is done to it."""

    words: tuple[str, ...]
    settings: dict[str, Any]
    code: str = ""  # of a method
    data: str = ""  # what is done to the images or labels
    patch: str = ""  # what is done to the reading
    more: dict[str, Any] = field(default_factory=dict)


LEARNING = ("learning",)
CASES = {
    "simclr": Case(LEARNING, SIMCLR),
    "byol": Case(LEARNING, BYOL),
    "dino": Case(LEARNING, DINO),
    "mae": Case(LEARNING, MAE),
    "supervised": Case(LEARNING, SUPERVISED),
    "no predictor": Case(("collapsing",), BYOL, code=NO_PREDICTOR),
    "no centring": Case(("collapsing",), DINO, code=NO_CENTRE),
    "learning rate x 1000": Case(("diverging",), SIMCLR, more={"optimizer_settings": {"lr": 1.0}}),
    "a NaN image": Case(("diverging",), SIMCLR, patch="nan"),
    "constant images": Case(("flat",), SIMCLR, data="constant"),
    "a shuffled teacher": Case(("collapsing",), BYOL, code=SHUFFLED_TEACHER),
    "a frozen encoder": Case(("flat",), SIMCLR, code=FROZEN),
    "shuffled labels": Case(("not learning from its labels",), SUPERVISED, data="shuffled"),
    "one class only": Case(("not learning from its labels",), SUPERVISED, data="one class"),
    "a slowed loader": Case(("starved for data",), SIMCLR, patch="slow", more={"steps": 60}),
}


def images(count: int = 1000) -> Source:
    """Some images of CIFAR-10 with their labels."""
    source = open_data(f"{rows.data('cifar10.zip')}/train")
    return source.take(random.order(0, 0, len(source))[:count].numpy())


def made_sick(source: Source, how: str) -> Source:
    """The images with something done to them or to their labels."""
    names = source.label_names()
    if how == "constant":
        grey = np.full((len(source), 32, 32, 3), 127, dtype=np.uint8)
        return open_data(grey).with_labels(names, "as before")
    if how == "shuffled":
        return source.with_labels([names[i] for i in random.order(1, 0, len(names)).tolist()], "shuffled")
    if how == "one class":
        return source.with_labels(["thing"] * len(names), "one class")
    return source


@contextlib.contextmanager
def patched(how: str) -> Iterator[None]:
    """Reading made sick: an image whose views are not numbers, or slow."""
    if how == "nan":
        batch = Feed.batch

        def spoilt(self, step, index, pixels, size):
            made = batch(self, step, index, pixels, size)
            for view in tensors({name: made[name] for name in self.views}) if step >= 0 else ():
                view[index == 7] = float("nan")
            return made

        with mock.patch.object(Feed, "batch", spoilt):
            yield
    elif how == "slow":
        squash = canvas.squash

        def slowly(*arguments):
            time.sleep(0.004)
            return squash(*arguments)

        with mock.patch.object(canvas, "squash", slowly), mock.patch.object(canvas, "free_memory", lambda: 0):
            yield
    else:
        yield


def train(case: Case, seed: int, out: Path, source: Source, **more: Any) -> list[dict]:
    """Run a case; gives its looks."""
    settings = {**SMALL, **case.settings, **case.more, "seed": seed, "skips": 1, "rollbacks": 0, **more}
    if case.code:
        file = out.parent / f"{out.name}.py"
        file.write_text(case.code)
        settings["method"] = str(file)
    with patched(case.patch), contextlib.suppress(TrainingFailed):
        tapetum.pretrain(made_sick(source, case.data), out=str(out), **settings)
    return read_lines(out / "health.jsonl")
