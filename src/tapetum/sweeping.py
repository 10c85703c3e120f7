"""The search for a learning rate: a training of some steps at climbing rates, a picture, and a proposal."""

import math
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from tapetum import verbs
from tapetum.base import settings
from tapetum.base.console import say, table
from tapetum.base.errors import TapetumError
from tapetum.base.files import replacing, write_json
from tapetum.measure.spectrum import effective_rank
from tapetum.report.sweep import drawn, rows
from tapetum.train import config, defaults, launch, online, optimizer, plan, setup
from tapetum.train.sweep import Proposal, Sweep, geometric, proposed, sweep

IMAGES = 512  # whose features are looked at
WIDE = 1000.0  # times the optimiser's usual rate that the sweep reaches, down and up


def find(
    data: Any,
    *,
    out: str,
    overwrite: bool,
    points: int,
    low: float | None,
    high: float | None,
    own: dict[str, Any],
    groups: dict[str, dict],
) -> dict[str, Any]:
    """The body of the verb `lr-find`; see tapetum.finding.lr_find for the settings.

    own: settings of `pretrain`, None where one is left open; groups: its `method.*` and so on.
    """
    files = Path(out) / "lr.png", Path(out) / "lr.json"
    if not overwrite and (there := [file for file in files if file.exists()]):
        raise TapetumError(f"{there[0]} exists; give another --out, or --overwrite.")
    if launch.launched():
        raise TapetumError("lr-find is one process: start it without torchrun.")
    if points < 20:
        raise TapetumError(f"points is {points}; a curve needs at least 20.")
    job = prepared(data, own, groups)
    low, high = low or job.peak / WIDE, high or job.peak * WIDE
    if not low < high:
        raise TapetumError(f"low is {low:g} and high is {high:g}; low must be less.")
    found = swept(job, geometric(low, high, points))
    if len(found.rates) < 10:
        why = found.ended or "there are too few steps"
        raise TapetumError(f"{why}; start at a lower --low than {low:.2g}.")
    advice = proposed(found)
    name = f"{job.config['method']}, batches of {job.config['batch_size']} images"
    with replacing(files[0]) as path:
        drawn(found, advice, name).save(path, "PNG")
    report = {
        **asdict(advice),
        "batch_size": job.config["batch_size"],
        "collapsed": None if found.collapsed is None else found.rates[found.collapsed],
        "ended": found.ended,
        "rates": found.rates,
        "losses": found.losses,
        "smoothed": found.smooth.tolist(),
        "ranks": [[found.rates[i], rank] for i, rank in sorted(found.ranks.items()) if math.isfinite(rank)],
        "settings": {name: value for name, value in job.config.items() if name != "optimizer.lr"},
    }
    write_json(files[1], report)
    show(found, advice, job, files[0])
    return report


def prepared(data: Any, own: dict[str, Any], groups: dict[str, dict]) -> setup.Job:
    """The run whose rate is looked for, in this one process."""
    if "lr" in groups["optimizer"]:
        raise TapetumError("lr-find looks for --optimizer.lr itself; leave it out.")
    given: dict[str, Any] = dict.fromkeys(settings.allowed(verbs.pretrain)) | defaults.PLAIN
    given |= {name: value for name, value in own.items() if value is not None} | {"data": data}
    given["devices"] = 1 if torch.cuda.is_available() and given["devices"] != "cpu" else "cpu"
    automatic = given["micro_batch"] == "auto"
    groups = config.parsed(groups, given["method"])
    job = setup.prepare({**given, "micro_batch": None} if automatic else given, groups)
    if automatic:
        job.feed.micro_batch, _ = plan.micro_batch(job, job.config["batch_size"])
    return job


def swept(job: setup.Job, rates: list[float]) -> Sweep:
    """The range test of a run that is ready to start; its method is trained, and of no more use."""
    flat = replace(job.settings, warmup=0.0, final=1.0, heads_first=0.0)
    sample = online.sample(job.source, job.method.encoder, IMAGES, job.config["seed"])

    def set_rate(t: float, rate: float) -> None:
        optimizer.set_rates(job.optimizer, job.method, flat, rate, t)

    def look() -> float:
        x = online.embed(job.method.encoder, sample.pixels)
        return effective_rank(x) if x.isfinite().all() else math.nan

    return sweep(
        job.method,
        job.optimizer,
        job.feed,
        rates,
        set_rate,
        look,
        steps=job.steps,
        precision=job.config["precision"],
        clip=job.settings.clip,
        seed=job.config["seed"],
        scaler=torch.amp.GradScaler() if job.config["precision"] == "fp16" else None,
    )


def show(found: Sweep, advice: Proposal, job: setup.Job, picture: Path) -> None:
    """Print the curve in a few lines, and what to type."""
    table(rows(found, advice), ("rate", "loss", "", "rank", ""))
    if found.ended:
        say(f"ended early: {found.ended}")
    say(advice.why)
    if advice.rate is not None:
        typed = ["--method", job.config["method"], "--batch-size", str(job.config["batch_size"])]
        say(f"put on the command line: {shlex.join([*typed, '--optimizer.lr', f'{advice.rate:.2g}'])}")
    say(f"the curve is in {picture}, all numbers beside it in lr.json")
