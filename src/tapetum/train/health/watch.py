"""Looks at a run's health: prints and stores what they show, and explains why training broke."""

import math
import shlex
import time
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

import torch

from tapetum.base import distributed
from tapetum.base.console import say
from tapetum.base.errors import TrainingFailed
from tapetum.base.files import read_lines, write_lines
from tapetum.base.journal import Journal
from tapetum.methods.method import Method
from tapetum.train import online
from tapetum.train.health.judge import Verdict, judge
from tapetum.train.health.probe import Probe
from tapetum.train.loop import Step
from tapetum.train.setup import Job
from tapetum.views.nest import tensors

FILE = "health.jsonl"
CLOCK = ("reading", "waiting", "seconds")  # fields that tell time; all others repeat bit for bit
FIRST = (0, 50, 100, 200)
RECENT = 32  # losses that a spike stands out from
SPIKE = 8.0  # by how many of their standard deviations


def due(step: int, steps: int) -> bool:
    """Whether there is a look after this step: four in the first 200, then each third more but no farther
    than 1,000 steps apart, and after the last."""
    if step in FIRST or step == steps:
        return True
    at = FIRST[-1]
    while at < step:
        at += min(1000, max(200, at // 3))
    return at == step


class Watch:
    """The health of one run, in its folder.

    Args:
        folder: of the run; `health.jsonl` gets a row for each look.
        job: the run.
        sample: images whose features are looked at.
        start: the step that the run goes on from; later rows are cut.
        state: what `state()` gave at that step.
    """

    def __init__(self, folder: Path, job: Job, sample: online.Sample, start: int, state: dict[str, Any]):
        self.path, self.job = folder / FILE, job
        self.journal = Journal(self.path)
        self.main = distributed.rank() == 0
        self.probe = Probe(job.method, job.feed, sample, job.config["precision"])
        self.losses: list[float] = state.get("losses", [])
        self.norms: list[float] = state.get("norms", [])
        self.spikes, self.overflows = state.get("spikes", 0), state.get("overflows", 0)
        self.history: list[dict] = []
        self.sick = 0  # looks in a row at which the run was sick
        if self.main and self.path.exists():
            self.history = [row for row in read_lines(self.path) if start and row["step"] <= start]
            write_lines(self.path, self.history)
            for row in self.history:
                self._count(Verdict(row["verdict"]))
        self._restart()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that the next look sees all steps since the last."""
        return {
            "losses": self.losses,
            "norms": self.norms,
            "spikes": self.spikes,
            "overflows": self.overflows,
        }

    def _restart(self) -> None:
        """Begin to count what the next look tells of the time."""
        self.began, self.read, self.waited = time.monotonic(), self.job.feed.reading, 0.0

    # ---- each step ----

    def note(self, step: Step) -> None:
        """Take in a step; of one that was left out there is nothing but the time. Scaled fp16 gradients may
        overflow."""
        self.waited += step.waited
        if step.skipped:
            return
        loss, norm = float(step.numbers["loss"]), float(step.numbers["gradient_norm"])
        self.spikes += spiked(self.losses[-RECENT:], loss)
        self.overflows += not math.isfinite(norm)
        self.losses = [*self.losses, loss][-RECENT:]
        self.norms = [*self.norms, norm][-RECENT:] if math.isfinite(norm) else self.norms

    def broke(self, step: int, what: str) -> NoReturn:
        """Write the last row and raise TrainingFailed."""
        why, attempt = f"{what} at step {step}", "a lower --optimizer.lr usually cures it"
        if self.losses:
            why += f", after {self.losses[-1]:.4g}"
        if culprits := self.not_finite(step):
            why += f"; the views of {culprits} are not finite"
            attempt = "look at these images and at what the views do to them"
        elif self.losses:
            why += "; the pixels of that step are finite"
        row = {"step": step, "broken": why, "attempt": f"{attempt[0].upper()}{attempt[1:]}."}
        self._tell(row, judge([*self.history, row]))
        raise TrainingFailed(f"{why}; {attempt}.")

    def not_finite(self, step: int) -> str:
        """The images of a step whose views are not finite; a function of the step, they are drawn again."""
        feed, found = self.job.feed, []
        for index in feed.plan(step - 1).split(feed.micro_batch):
            batch = feed.batch(step - 1, index, *feed.canvas.fetch(index))
            whole = torch.ones(len(index), dtype=torch.bool)
            for view in tensors({name: batch[name] for name in feed.views}):
                whole &= view.isfinite().flatten(1).all(1).cpu()
            found.append(torch.where(whole, -1, feed.canvas.shown(index)))
        bad = [i for i in distributed.gather(torch.cat(found)).tolist() if i >= 0]
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        return ", ".join(self.job.source.paths[i] for i in bad[:3]) + more

    # ---- looks ----

    def look(self, step: int) -> dict[str, float]:
        """Measure, judge, print and store; gives the numbers."""
        elapsed, reading = max(time.monotonic() - self.began, 1e-9), self.job.feed.reading - self.read
        began = time.monotonic()
        numbers = self.probe.measure(step / self.job.steps)
        if step and not self.job.settings.begun((step - 1) / self.job.steps):
            numbers["resting"] = 1.0  # the heads learn first
        since = step - (self.history[-1]["step"] if self.history else 0)
        if sets_targets(self.job.method):
            numbers["targets"] = -(-step // self.job.feed.steps_per_epoch)  # how often they were set
        numbers |= {"steps": since, "spikes": self.spikes, "overflows": self.overflows}
        if self.norms:
            numbers |= {"gradient": median(self.norms), "gradient_most": max(self.norms)}
        numbers |= {"reading": reading / elapsed, "waiting": self.waited / elapsed}
        row = {"step": step, **numbers, "seconds": time.monotonic() - began}
        if self.main:
            self.history.append(row)
            self._tell(row, judge(self.history))
        self.spikes = self.overflows = 0
        self._restart()
        return numbers

    def _tell(self, row: dict, verdict: Verdict) -> None:
        """Write a row with its verdict and say it; what to try is said when the verdict changes."""
        if not self.main:
            return
        before = next((old["verdict"] for old in reversed(self.history) if "verdict" in old), None)
        row |= {"verdict": verdict.word, "why": verdict.why, "try": verdict.attempt}
        self.journal.add(row)
        self._count(verdict)
        say(f"health at step {row['step']:,}: {verdict}")
        if verdict.attempt and verdict.word != before:
            say(f"  try: {verdict.attempt}")

    def _count(self, verdict: Verdict) -> None:
        self.sick = self.sick + 1 if verdict.stops else 0

    def ended(self) -> TrainingFailed:
        """What to say of a run that is ended because it is sick."""
        last: dict[str, Any] = self.history[-1] if self.history else {}
        verdict = Verdict(last.get("verdict", "sick"), last.get("why", ""))
        return TrainingFailed(
            f"stopped at step {last.get('step')}, sick at two looks in a row: {verdict}. {last.get('try')} "
            f"All is saved; without --stop-when, --resume {shlex.quote(str(self.path.parent))} goes on."
        )

    def stops(self) -> bool:
        """Whether the run was sick at two looks in a row; all processes get the same answer."""
        return bool(distributed.gather(torch.tensor([self.sick])).max() >= 2)


def sets_targets(method: Method) -> bool:
    """Whether a method, or one of those it is made of, sets its targets anew each epoch."""
    own = [one for one in method.modules() if isinstance(one, Method)]
    single = [one for one in own if not any(isinstance(part, Method) for part in list(one.modules())[1:])]
    return any(type(one).before_epoch is not Method.before_epoch for one in single)


def spiked(before: list[float], loss: float) -> bool:
    """Whether a loss stands far above the ones before it."""
    if len(before) < RECENT:
        return False
    mean = sum(before) / len(before)
    error = (sum((x - mean) ** 2 for x in before) / len(before)) ** 0.5
    return loss > mean + SPIKE * max(error, 1e-12)
