"""What training does when a step gives no finite number: leave it out, go back at a lower rate, or end."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from tapetum.base import distributed
from tapetum.base.console import warn
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_lines, write_lines
from tapetum.base.journal import Journal
from tapetum.train import checkpoint
from tapetum.train.attempt import sound
from tapetum.train.health.watch import Watch
from tapetum.train.loop import Step
from tapetum.train.setup import Job
from tapetum.train.sharding import is_split

FILE = "mishaps.jsonl"
LOWER = 0.5  # of the learning rate, each time that a run goes back


class GoBack(Exception):
    """All is to be built again from the checkpoint that is now the newest, and to go on at a lower rate."""


class Mishaps:
    """The steps that a run left out and the times that it went back, in its folder's `mishaps.jsonl`.

    Args:
        folder: of the run.
        job: the run.
        options: `skips`, how many steps in a row make the run go back, and `rollbacks`, how often it may.
        start: the step that the run goes on from; what was left out later is cut.
        state: what `state()` gave at that step.
    """

    def __init__(self, folder: Path, job: Job, options: dict[str, Any], start: int, state: dict[str, Any]):
        self.folder, self.job = folder, job
        self.skips, self.most = min(options["skips"], job.steps), options["rollbacks"]
        self.main = distributed.rank() == 0
        self.journal = Journal(folder / FILE)
        self.skipped, self.in_a_row = state.get("skipped", 0), state.get("in_a_row", 0)
        rows = read_lines(self.journal.path) if self.journal.path.exists() else []
        went = [row for row in rows if "back_to" in row]
        self.went_back: list[dict] = max(went, state.get("went_back", []), key=len)
        if self.main and rows:
            write_lines(self.journal.path, [row for row in rows if "back_to" in row or row["step"] <= start])

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "went_back": self.went_back}

    def set_rates(self, t: float) -> None:
        """The job's learning rates at progress t, lowered from each step on that the run went back to."""
        self.job.set_rates(t)
        for group in self.job.optimizer.param_groups:
            group["lr"] *= self.share(round(t * self.job.steps))

    def share(self, done: int) -> float:
        """The share of the planned learning rate at which the step after `done` learns."""
        return LOWER ** sum(row["back_to"] <= done for row in self.went_back)

    def note(self, step: Step, watch: Watch, weights: bool) -> None:
        """Take in a step.

        weights: check what is to be saved or looked at, too; one step can spoil weights that gave a finite
            loss.
        Raises GoBack, or TrainingFailed where the run went back often enough.
        """
        if step.skipped:
            self._left_out(step, watch)
            if self.in_a_row >= self.skips:
                row = f" in each of {self.in_a_row} steps," if self.in_a_row > 1 else ""
                self.back(step.number, f"{what(step)}{row}", watch)
        else:
            self.in_a_row = 0
        if weights and distributed.total(torch.tensor([float(not sound(self.job.method))])) > 0:
            self.back(step.number, "weights are infinite or not numbers", watch)

    def _left_out(self, step: Step, watch: Watch) -> None:
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        culprits = watch.not_finite(step.number)
        if not self.main:
            return
        source, feed = self.job.source, self.job.feed
        images = [source.paths[i] for i in feed.canvas.shown(feed.images(step.number - 1)).tolist()]
        row = {"step": step.number, "what": what(step), "not_finite": culprits, "images": images}
        self.journal.add(row)
        named = f"; the views of {culprits} are not finite" if culprits else ""
        warn(
            f"{what(step)} at step {step.number:,}, which is left out{named}. Its images are named in "
            f"{self.journal.path}."
        )

    def back(self, step: int, why: str, watch: Watch) -> NoReturn:
        """Go back, all processes alike; or end."""
        if len(self.went_back) >= self.most:
            watch.broke(step, why)
        to = leave(self.folder / "checkpoints", self.main)
        self.went_back.append({"step": step, "back_to": to, "why": why})
        if self.main:
            self.journal.add(self.went_back[-1])
            self.journal.close()  # what is not written would be forgotten
            warn(
                f"{why} at step {step:,}: going back to step {to:,}, from where the learning rate is "
                f"{self.share(to):g} of what it was planned to be."
            )
        distributed.total(torch.zeros(1))  # none reads the file before it is written
        raise GoBack

    def close(self) -> None:
        """Write what a full disk refused, and say how much was left out."""
        if self.main:
            self.journal.close()
            if self.skipped:
                count = f"{self.skipped:,} step{'s' * (self.skipped > 1)}"
                warn(f"{count} gave no finite numbers and changed nothing; see {self.journal.path}.")


def saving(steps: Iterator[Step], method: nn.Module, save: Callable[[Step], None]) -> Iterator[Step]:
    """The steps; where the next cannot be done (images out of reach, no memory), `save` is called first.

    Not where weights are split: others have parts of them, and wait in the midst of a step. Nor where an
    epoch has begun since: what `before_epoch` has changed, perhaps half, would be changed again.
    """
    step = None
    try:
        for step in steps:
            yield step
    except TapetumError:
        if step and not step.past and not is_split(method) and sound(method):
            save(step)
        raise


def what(step: Step) -> str:
    loss, norm = (float(step.numbers[name]) for name in ("loss", "gradient_norm"))
    return f"the loss is {loss} and the gradient's norm {norm}"


def leave(folder: Path, main: bool) -> int:
    """Remove the checkpoints that were made between steps that were left out; the step of the newest that
    stays, 0 where none does. Raises TapetumError, and removes nothing, where only damaged ones would stay."""
    step, spoilt, damaged = 0, [], []
    if main:
        for path in reversed(checkpoint.found(folder)):
            try:
                facts = checkpoint.facts_of(path)
            except (TapetumError, OSError, ValueError):
                damaged.append(path)
                continue
            if not facts.get("mishaps", {}).get("in_a_row", 0):
                step = facts["step"]
                break
            spoilt.append(path)
        if damaged and not step:
            raise TapetumError(
                f"the run is to go back, and no checkpoint from before is whole: {damaged[-1]} is damaged."
            )
        for path in spoilt:
            shutil.rmtree(path)
    return int(distributed.total(torch.tensor([float(step)])))
