"""A pretraining run: its folder, its numbers, its checkpoints, and how it goes on after a stop."""

import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import torch

from tapetum.base import console, distributed, memory
from tapetum.base.console import Progress, duration, say, warn
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_lines
from tapetum.base.journal import Journal
from tapetum.data import Source, open_data
from tapetum.train import checkpoint, config, defaults, environment, launch, online, product, setup
from tapetum.train import resume as resume_
from tapetum.train.claim import Claim
from tapetum.train.health.watch import Watch, due
from tapetum.train.loggers import Logger
from tapetum.train.loggers import build as build_loggers
from tapetum.train.loggers import check as check_loggers
from tapetum.train.loop import Step, fit
from tapetum.train.mishaps import GoBack, Mishaps, saving
from tapetum.train.sharding import opened
from tapetum.train.skipped import Skipped
from tapetum.train.stop import REQUEUE, Stop

# Fields of metrics.jsonl that tell time and memory; all others repeat bit for bit.
CLOCK = ("time", "rate", "waited", "memory")


class Run:
    """The life of one run in its folder."""

    def __init__(self, folder: Path, job: setup.Job, options: dict[str, Any]):
        self.folder, self.job, self.options = folder, job, options
        self.main = distributed.rank() == 0
        self.metrics = Journal(folder / "metrics.jsonl")
        self.test: Source | None = None
        if options["test_data"] is not None:
            self.test = open_data(options["test_data"], labels=options["labels"])
        self.loggers: list[Logger] = []
        self.began = time.monotonic()
        self.waited = 0.0
        self.last_saved = time.monotonic()
        self.scaler = torch.amp.GradScaler() if job.config["precision"] == "fp16" else None
        self.planned = job.feed.micro_batch
        self.first: dict[str, float] = {}  # what the online look saw before the first step
        self.kept: dict[str, Any] = {}  # the facts of the checkpoint that it goes on from

    # ---- beginning ----

    def create(self) -> None:
        """Make the folder and write what the run is."""
        if self.main:
            self.folder.mkdir(parents=True, exist_ok=True)
            if plugin := self.options.get("plugin"):
                shutil.copy(plugin, self.folder / "method.py")
            config.write(self.folder / "config.yaml", self.job.config)  # last: with it, the folder is a run
        self.note_environment()

    def note_environment(self) -> None:
        """Add this start to environment.json."""
        if self.main:
            environment.note(self.folder / "environment.json")

    def resume(self) -> int:
        """Load the newest whole checkpoint and cut the numbers written after it. Returns the step."""
        folder, step = self.folder / "checkpoints", 0
        run = resume_.identity(self.folder)
        if facts := checkpoint.load(folder, self.job.method, self.job.optimizer, run):
            self.kept, step = facts, facts["step"]
            resume_.taken_up(facts, self.job, self.scaler)
            if self.main:
                checkpoint.prune(folder, step, self.options["keep_checkpoints"])
        resume_.check_alike(step)
        if self.main and self.metrics.path.exists():
            self.first = resume_.cut(self.metrics.path, step)
        return step

    # ---- the run ----

    def train(self, start: int, stop: Stop) -> None:
        """From step `start` to the end; raises SystemExit when asked to stop."""
        job, per_epoch = self.job, self.job.feed.steps_per_epoch
        self._note_skipped()
        bank, held_out = online.samples(job, self.test)
        self.loggers = build_loggers(self.options["logger"], self.folder, job.config) if self.main else []
        every = (self.options["eval_every"] or max(1, job.config["epochs"] // 10)) * per_epoch
        self.watch = Watch(self.folder, job, bank, start, self.kept.get("health", {}))
        self.mishaps = Mishaps(self.folder, job, self.options, start, self.kept.get("mishaps", {}))
        if start == 0:
            self.first = self._look(0, bank, held_out)
            self._watch(Step(0, {}, 0.0))
        steps = fit(
            job.method,
            job.optimizer,
            job.feed,
            steps=job.steps,
            start=start,
            set_rates=self.mishaps.set_rates,
            precision=job.config["precision"],
            clip=job.settings.clip,
            seed=job.config["seed"],
            scaler=self.scaler,
        )
        batch = job.config["batch_size"]
        stop.training = True
        with Progress(job.steps * batch, "pretraining", done=start * batch) as progress:
            before = time.monotonic()
            for step in saving(steps, job.method, self._save):
                self.waited += step.waited
                last, asked = step.number == job.steps, stop.asked()
                save = last or asked != 0 or (self._due(step.number) and not step.skipped)
                self.mishaps.note(step, self.watch, weights=save)
                self.watch.note(step)
                if not step.skipped and (last or step.number % self.options["log_every"] == 0):
                    self._log(step, batch / max(time.monotonic() - before, 1e-9))
                before = time.monotonic()
                share = self.waited / max(before - self.began, 1e-9)
                progress.advance(batch, loss=float(step.numbers["loss"]), waiting=f"{share:.0%}")
                if last or step.number % every == 0:
                    self._look(step.number, bank, held_out)
                if due(step.number, job.steps):
                    self._watch(step)
                if save:
                    self._save(step, must=last or asked != 0)
                if asked and not last:
                    self._stopped(asked)

    def _note_skipped(self) -> None:
        """Write down the files that were left out, and each that turns out to be damaged, at once."""
        skipped, canvas = Skipped(self.folder / "skipped.jsonl"), self.job.canvas
        if self.main:
            skipped.add([*self.job.source.skipped, *canvas.skipped])
        canvas.on_damage = skipped.note

    def _look(self, step: int, bank: online.Sample, held_out: online.Sample | None) -> dict[str, float]:
        with opened(self.job.method):
            numbers = online.look(self.job.method.product(), bank, held_out)
        self._write({"step": step, "epoch": step / self.job.feed.steps_per_epoch, **numbers})
        if self.main:
            text = f"epoch {step / self.job.feed.steps_per_epoch:.3g} of {self.job.config['epochs']}"
            if "knn" in numbers:
                before = f" (before training {self.first['knn']:.1%})" if "knn" in self.first else ""
                text += f": nearest neighbours name {numbers['knn']:.1%} rightly{before}"
            say(f"{text}; effective rank {numbers['rank']:.1f} of {self.job.method.product().dim}")
            if self.job.config["weights"] != "none" and numbers.get("knn", 1) < self.first.get("knn", 0):
                warn("so far the features are worse than the weights that this run began with.")
        return numbers

    def _watch(self, step: Step) -> None:
        """Look at the run's health, and end it where it is sick and that is wanted."""
        numbers = self.watch.look(step.number)
        for log in self.loggers:
            log(step.number, {f"health.{k}": v for k, v in numbers.items() if not isinstance(v, list)})
        if self.options.get("stop_when") == "sick" and step.number < self.job.steps and self.watch.stops():
            self._save(step, must=True)
            distributed.gather(torch.zeros(1))  # none leaves before the checkpoint stands
            raise self.watch.ended()

    def _log(self, step: Step, rate: float) -> None:
        numbers = {name: float(value) for name, value in step.numbers.items()}
        lr = max(group["lr"] for group in self.job.optimizer.param_groups)
        elapsed = time.monotonic() - self.began
        clock = {"time": round(elapsed, 3), "rate": round(rate, 1), "waited": round(self.waited / elapsed, 4)}
        at = {"step": step.number, "epoch": step.number / self.job.feed.steps_per_epoch}
        self._write({**at, **numbers, "lr": lr, **clock, "memory": memory.peak(self.job.device.type)})

    def _write(self, row: dict[str, float]) -> None:
        if self.main:
            self.metrics.add(row)
            for log in self.loggers:
                log(int(row["step"]), {k: v for k, v in row.items() if k != "step"})

    # ---- keeping ----

    def _due(self, step: int) -> bool:
        if wanted := self.options["checkpoint_steps"]:
            return step % wanted == 0
        since = time.monotonic() - self.last_saved
        due = since > 600 or (step % self.job.feed.steps_per_epoch == 0 and since > 60)
        return bool(distributed.gather(torch.tensor([due])).any()) if distributed.world() > 1 else due

    def _save(self, step: Step, must: bool = False) -> None:
        """Write a checkpoint, all processes together; what cannot be written ends the run only if `must`."""
        facts = resume_.known(self.folder, self.job, self.planned, self.scaler)
        facts |= {"health": self.watch.state(), "mishaps": self.mishaps.state()}
        folder, keep = self.folder / "checkpoints", self.options["keep_checkpoints"]
        try:
            checkpoint.save(folder, step.number, self.job.method, self.job.optimizer, facts, keep)
        except TapetumError as error:
            if must:
                raise
            if self.main:
                warn(f"{error} Training goes on, and the next one is tried in its time.")
        self.last_saved = time.monotonic()

    def _stopped(self, number: int) -> None:
        again = f"tapetum pretrain --resume {shlex.quote(str(self.folder))}"
        if self.options["plugin"]:
            again += f" --method {shlex.quote(str(self.folder / 'method.py'))}"
        if self.main:
            say(f"stopped as asked; everything is saved. Go on with: {again}")
        distributed.gather(torch.zeros(1))  # none leaves before the checkpoint stands
        raise SystemExit(130 if number == signal.SIGINT else REQUEUE)

    def finish(self) -> dict[str, Any]:
        """Write what still waits, and the product."""
        if self.main:
            for journal in (self.metrics, self.watch.journal, self.mishaps):
                journal.close()
            Skipped(self.folder / "skipped.jsonl").add(self.job.canvas.skipped)
        product.save(self.folder, self.job.method, self.job.source.classes)
        rows = read_lines(self.metrics.path) if self.main else []
        last = {k: v for row in rows[-5:] for k, v in row.items() if k not in CLOCK}
        return {
            "run": str(self.folder),
            "steps": self.job.steps,
            "seconds": time.monotonic() - self.began,
            **last,
        }


def pretrain(
    data: Any = None, *, given: dict[str, Any], groups: dict[str, dict], plan: bool = False
) -> dict[str, Any]:
    """The body of the verb `pretrain`; see tapetum.verbs.pretrain for the settings.

    given: every setting by name, None where it is left open; groups: the settings `method.*` and so on.
    """
    given = {**given, "data": data}  # None where nothing was said
    if data is None and given.get("resume") is None:
        raise TapetumError("pretrain needs DATA: a folder, an archive, a list or arrays; or --resume RUN.")
    folder = Path(given["out"]) if given.get("out") else None
    resume, folder = resume_.where(given.get("resume"), folder, plan)
    if resume:
        assert folder
        given, groups = resume_.continued(folder, given, groups)
    elif data is None:
        raise TapetumError(f"there is no run in {folder} yet, so pretrain needs DATA.")
    given |= {name: value for name, value in defaults.PLAIN.items() if given.get(name) is None}
    groups = config.parsed(groups, given["method"])
    check_loggers(given["logger"] or [])
    if given.get("budget") or plan or given.get("micro_batch") == "auto":
        from tapetum.train import plan as planning

        given, report = planning.fitted(given, groups)
        if plan:
            planning.show(report)
            return report
    world = launch.count(given["devices"])
    arguments: dict[str, Any] = {"given": given, "groups": groups, "folder": folder, "resume": resume}
    if world > 1 and not launch.launched():
        launch.spawned(world, body, arguments)
        return {"run": str(folder)}
    return body(**arguments)


def body(given: dict[str, Any], groups: dict[str, dict], folder: Path, resume: bool) -> dict[str, Any]:
    """What each process does."""
    with Stop() as stop, launch.group(), Claim(folder):
        while True:
            try:
                return life(given, groups, folder, resume, stop)
            except GoBack:
                resume = True


def life(
    given: dict[str, Any], groups: dict[str, dict], folder: Path, resume: bool, stop: Stop
) -> dict[str, Any]:
    """A run from its beginning, or from its newest checkpoint, to its end."""
    quiet = distributed.rank() > 0
    job = setup.prepare(given, groups, quiet)
    run = Run(folder, job, {**given, "plugin": given["method"] if given["method"].endswith(".py") else None})
    if resume:
        resume_.check_same(folder, job)
        start = run.resume()
        run.note_environment()
        if not quiet:
            say(f"going on with {folder} at step {start:,} of {job.steps:,}")
    else:
        start = 0
        run.create()
        if not quiet:
            rows = [(name, setup.plain(c.value), c.reason) for name, c in job.choices.items()]
            console.table(rows, ("setting", "value", "why"))
    run.train(start, stop)
    result = run.finish()
    if not quiet:
        say(f"done in {duration(result['seconds'])}: {folder}/encoder.safetensors")
        places = [str(folder), "--train-data", job.config["data"]]
        say(f"measure it with: {shlex.join(['tapetum', 'evaluate', *places])}")
    return result
