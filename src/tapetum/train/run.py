"""A pretraining run: its folder, its numbers, its checkpoints."""

import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import torch

from tapetum.base import distributed, memory
from tapetum.base.console import Progress, say, warn
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_lines
from tapetum.base.journal import Journal
from tapetum.data import Source, open_data
from tapetum.train import checkpoint, config, environment, online, product, setup
from tapetum.train import resume as resume_
from tapetum.train.health.watch import Watch, due
from tapetum.train.loggers import Logger
from tapetum.train.loggers import build as build_loggers
from tapetum.train.loop import Step, fit
from tapetum.train.mishaps import Mishaps, saving
from tapetum.train.sharding import opened
from tapetum.train.skipped import Skipped
from tapetum.train.stop import REQUEUE, Stop

# Fields of metrics.jsonl that tell time and memory; all others repeat bit for bit.
CLOCK = ("time", "rate", "waited", "memory")


class Run:
    """The life of one run in its folder."""

    def __init__(self, folder: Path, job: setup.Job, options: dict[str, Any], loggers: list[Logger]):
        self.folder, self.job, self.options, self.loggers = folder, job, options, loggers
        self.main = distributed.rank() == 0
        self.metrics = Journal(folder / "metrics.jsonl")
        self.test: Source | None = None
        if options["test_data"] is not None:
            self.test = open_data(options["test_data"], labels=options["labels"])
        self.began = time.monotonic()
        self.waited = 0.0
        self.last_saved, self.saved = time.monotonic(), -1  # when, and the step
        self.owed = False  # a checkpoint that was due at a step that was left out
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
            self.saved = step
            if self.main and not facts.get("mishaps", {}).get("in_a_row", 0):
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
        if self.main and not self.loggers:  # a run that went back has them
            self.loggers += build_loggers(self.options["logger"], self.folder, job.config)
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
                self.owed |= self._due(step.number)
                save = last or asked != 0 or (self.owed and not step.skipped)
                look = last or step.number % every == 0
                self.mishaps.note(step, self.watch, weights=save or look)
                self.watch.note(step)
                if not step.skipped and (last or step.number % self.options["log_every"] == 0):
                    self._log(step, batch / max(time.monotonic() - before, 1e-9))
                before = time.monotonic()
                share = self.waited / max(before - self.began, 1e-9)
                progress.advance(batch, loss=float(step.numbers["loss"]), waiting=f"{share:.0%}")
                if look:
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
        try:
            with opened(self.job.method):
                numbers = online.look(self.job.method.product(), bank, held_out)
        except online.NotFinite as error:
            if not step:
                raise
            self.mishaps.back(step, str(error), self.watch)  # of the same images on all processes
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
            self.flush()
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
        """Write a checkpoint, all processes together; what cannot be written ends the run only if `must`.

        One between steps that were left out may be gone back beyond, so then no older one is removed.
        """
        if step.number == self.saved:
            return
        facts = resume_.known(self.folder, self.job, self.planned, self.scaler)
        facts |= {"health": self.watch.state(), "mishaps": self.mishaps.state()}
        folder, keep = self.folder / "checkpoints", self.options["keep_checkpoints"]
        try:
            keep = None if self.mishaps.in_a_row else keep
            checkpoint.save(folder, step.number, self.job.method, self.job.optimizer, facts, keep)
            self.saved, self.owed = step.number, False
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
        self.flush()
        if self.main:
            say(f"stopped as asked; everything is saved. Go on with: {again}")
        distributed.gather(torch.zeros(1))  # none leaves before the checkpoint stands
        raise SystemExit(130 if number == signal.SIGINT else REQUEUE)

    def flush(self, must: bool = False) -> None:
        """Write what still waits for room on the disk; that there is none is an error only if `must`."""
        try:
            Skipped(self.folder / "skipped.jsonl").add(self.job.canvas.skipped)  # each has read others
            for journal in (self.metrics, self.watch.journal, self.mishaps) if self.main else ():
                journal.close()
        except TapetumError as error:
            if must:
                raise
            warn(str(error))

    def finish(self) -> dict[str, Any]:
        """Write what still waits, and the product."""
        self.flush(must=True)
        product.save(self.folder, self.job.method, self.job.source.classes)
        rows = read_lines(self.metrics.path) if self.main else []
        last = {k: v for row in rows[-5:] for k, v in row.items() if k not in CLOCK}
        return {
            "run": str(self.folder),
            "steps": self.job.steps,
            "seconds": time.monotonic() - self.began,
            **last,
        }
