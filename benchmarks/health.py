"""Runs made sick on purpose, and healthy ones: does their health report name each rightly within 200 steps?

    python -m benchmarks.health                        # all cases, seeds 0 and 1; what is done stays done
    python -m benchmarks.health --only "no predictor"  # one of them
    python -m benchmarks.health --cost                 # how much time the looks take, of a run of 3,000 steps
    python -m benchmarks.health --table                # only rewrite the table

1,000 images of CIFAR-10, a ResNet of ten layers with 16 to 128 channels (for MAE a ViT of four blocks), 200
steps of 64 images. A row counts as long as the probe is the one that it was made with;
the verdicts in the table are those of the judge as it stands.
"""

import argparse
import contextlib
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import tapetum
from benchmarks import rows
from benchmarks.rows import ROOT
from tapetum.base import random
from tapetum.base.errors import TrainingFailed
from tapetum.base.files import read_lines
from tapetum.data import Source, canvas, open_data
from tapetum.train import run as running
from tapetum.train.feed import Feed
from tapetum.train.health.judge import Verdict
from tapetum.train.health.judge import judge as verdict
from tapetum.train.health.probe import tensors

ROWS = rows.RESULTS / "health.jsonl"
TABLE = ROWS.with_suffix(".md")
PROBE = ROOT / "src" / "tapetum" / "train" / "health" / "probe.py"

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
    settings = {**SMALL, **case.settings, **case.more, "seed": seed, **more}
    if case.code:
        file = out.parent / f"{out.name}.py"
        file.write_text(case.code)
        settings["method"] = str(file)
    with patched(case.patch), contextlib.suppress(TrainingFailed):
        tapetum.pretrain(made_sick(source, case.data), out=str(out), **settings)
    return read_lines(out / "health.jsonl")


def judged(looks: list[dict]) -> list[Verdict]:
    """What the judge as it stands says at each look."""
    return [verdict(looks[: i + 1]) for i in range(len(looks))]


def right(case: Case, looks: list[dict]) -> bool:
    """Whether a sick run was named rightly, and a healthy one never called sick."""
    said = [found.word for found in judged(looks)]
    if case.words == LEARNING:
        return set(said) == {"beginning", "learning"}
    return said[-1] in case.words


def fingerprint() -> str:
    """Of the code that measures."""
    return hashlib.sha256(PROBE.read_bytes()).hexdigest()[:12]


def keep(name: str, seed: int, source: Source) -> None:
    """One row."""
    code = fingerprint()
    if any((r["row"], r["seed"], r["code"]) == (name, seed, code) for r in rows.kept(ROWS) if "code" in r):
        return
    case = CASES[name]
    out = ROOT / "runs" / "health" / f"{name.replace(' ', '-')}-{seed}"
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    looks = train(case, seed, out, source)
    seconds = time.monotonic() - began
    row = {
        "row": name,
        "seed": seed,
        "seconds": round(seconds, 1),
        "looks": round(sum(look.get("seconds", 0) for look in looks), 2),
        "code": code,
        "history": [kept_of(look) for look in looks],
    }
    rows.keep(ROWS, row | rows.facts())
    print(name, seed, right(case, looks), *judged(looks), sep="\n  ", flush=True)


def kept_of(look: dict) -> dict:
    """A look with its numbers rounded and without its verdict, which the table asks for anew."""
    short = {n: v for n, v in look.items() if n not in ("verdict", "why", "try")}
    return json.loads(json.dumps(short), parse_float=lambda text: float(f"{float(text):.7g}"))


def cost(source: Source) -> None:
    """How much longer a run of a minute takes with looks at its health: in turn with and without."""
    settings = {"steps": 3000, "batch_size": 128, "eval_every": 10**6, "checkpoint_steps": 10**6}

    def seconds(watched: bool) -> float:
        with tempfile.TemporaryDirectory() as folder:
            due = running.due if watched else lambda step, steps: False
            with mock.patch.object(running, "due", due):
                began = time.monotonic()
                looks = train(CASES["simclr"], 0, Path(folder) / "run", source, **settings)
                took.append(sum(look.get("seconds", 0) for look in looks))
                return time.monotonic() - began

    took: list[float] = []
    pairs = [(seconds(True), seconds(False)) for _ in range(2)]
    row = {
        "row": "cost",
        "steps": settings["steps"],
        "with": [round(a, 1) for a, _ in pairs],
        "without": [round(b, 1) for _, b in pairs],
        "looks": round(took[0], 2),
        "share": round(took[0] / pairs[0][0], 4),
    }
    rows.keep(ROWS, row | rows.facts())
    print(json.dumps(row), flush=True)


def named_at(case: Case, found: list[Verdict], steps: list[int]) -> int | None:
    """The first look with a right word."""
    return next((step for one, step in zip(found, steps) if one.word in case.words), None)


def table() -> None:
    """Write the newest row of each case and seed as a table."""
    kept = [row for row in rows.kept(ROWS) if row["row"] in CASES]
    newest = {(row["row"], row["seed"]): row for row in kept}
    lines = [
        "# Runs made sick on purpose, and healthy ones",
        "",
        "Generated by `python -m benchmarks.health --table` from the rows beside this file. 1,000 images of",
        "CIFAR-10, 200 steps of 64 images. Right: a sick run ends with the right word; a healthy one is",
        "never called anything but learning.",
        "",
        "| run | seeds | right | named at step | the last look |",
        "|---|---|---|---|---|",
    ]
    for name, case in CASES.items():
        group = [row for (row_name, _), row in sorted(newest.items()) if row_name == name]
        if not group:
            lines.append(f"| {name} | not run | | | |")
            continue
        found = [judged(row["history"]) for row in group]
        yes = f"{sum(right(case, row['history']) for row in group)} of {len(group)}"
        steps = [[look["step"] for look in row["history"]] for row in group]
        at = ", ".join(str(named_at(case, f, s)) for f, s in zip(found, steps))
        lines.append(f"| {name} | {len(group)} | {yes} | {at} | {found[0][-1]} |")
    costs = [row for row in rows.kept(ROWS) if row["row"] == "cost"]
    if costs:
        last = costs[-1]
        lines += [
            "",
            f"Looks took {last['looks']} s of a run of {last['steps']:,} steps, {last['share']:.1%} of it;",
            f"with them it took {last['with']} s, without {last['without']} s, in turn.",
        ]
    TABLE.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run what is asked and not yet done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help=f"separated by commas, of: {', '.join(CASES)}")
    parser.add_argument("--seeds", default="0,1", help="separated by commas")
    parser.add_argument("--cost", action="store_true", help="measure what the looks cost")
    parser.add_argument("--table", action="store_true", help="only rewrite the table")
    asked = parser.parse_args()
    wanted = rows.chosen(asked.only, CASES) if asked.only else list(CASES)
    torch.set_num_threads(1)
    if asked.cost:
        cost(images(10_000))
    elif not asked.table:
        source = images()
        for seed in map(int, asked.seeds.split(",")):
            for name in wanted:
                keep(name, seed, source)
    table()


if __name__ == "__main__":
    sys.exit(main())
