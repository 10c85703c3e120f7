"""A run as its folder tells it: settings, numbers, health, results, and in words how far it came."""

import math
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tapetum.base.console import duration
from tapetum.base.errors import TapetumError
from tapetum.evaluate.result import Result, read_results
from tapetum.evaluate.run import shown
from tapetum.evaluate.subjects import cost_of
from tapetum.report.tail import Tail, is_number, within
from tapetum.train import checkpoint, config
from tapetum.train.run import CLOCK

FRESH = 120  # seconds after its last line in which a run is taken to be going on
LINES = {
    "metrics": ("step",),
    "health": ("step", "verdict"),
    "skipped": ("path",),
}  # what each line must have
TRAINING = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "health.jsonl",
)  # what it writes while it goes on
JUDGED = {"learning": True, "beginning": None}  # verdicts that are no warning


@dataclass
class Story:
    """Args:
    folder: of the run.
    settings: flat, as config.yaml has them.
    rows: of metrics.jsonl and health: of health.jsonl, each line a dict.
    skipped: {"path", "reason"} of what was left out.
    results: of results.json.
    wrote: when training last wrote, in seconds since 1970.
    notes: what could not be read.
    """

    folder: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    health: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    wrote: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def quiet(self) -> float:
        """Seconds since training last wrote."""
        return max(time.time() - self.wrote, 0.0)

    @property
    def finished(self) -> bool:
        return (self.folder / "encoder.json").exists()

    @property
    def step(self) -> int:
        """The last step that it told of."""
        return max((int(row["step"]) for row in self.rows), default=0)

    @property
    def steps(self) -> int:
        return int(steps) if is_number(steps := self.settings.get("steps", 0)) else 0

    @property
    def saved(self) -> int:
        """The step of the newest checkpoint, 0 without one."""
        there = checkpoint.found(self.folder / "checkpoints")
        return int(there[-1].name.removeprefix("step_")) if there else 0

    @property
    def state(self) -> str:
        """One of finished, going, stopped (all saved), broken, silent (killed, or it hangs), not begun."""
        if self.finished:
            return "finished"
        if self.health and self.health[-1].get("broken"):
            return "broken"
        if self.quiet < FRESH:
            return "going"
        if not self.rows:
            return "not begun"
        return "stopped" if 0 < self.step <= self.saved else "silent"

    def series(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of one number, where it is finite."""
        found = [(float(row["step"]), row[name]) for row in self.rows if is_number(row.get(name))]
        return [step for step, _ in found], [float(value) for _, value in found]

    def names(self) -> list[str]:
        """All numbers that were logged, loss and online measures first, without clock and place."""
        first = ["loss", "knn", "rank"]
        there = dict.fromkeys(name for row in self.rows for name, value in row.items() if is_number(value))
        rest = [n for n in there if n not in (*first, "step", "epoch", "lr", *CLOCK)]
        return [n for n in (*first, *rest, "lr", "rate", "waited") if n in there]

    def odd(self, name: str) -> int:
        """How often a number was logged that is infinite or none."""
        return sum(isinstance(v := row.get(name), float) and not math.isfinite(v) for row in self.rows)


class Reader:
    """Reads a run again and again: each line once, each other file when it changed."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lines = {name: Tail(folder / f"{name}.jsonl", wanted) for name, wanted in LINES.items()}
        self._kept: dict[str, tuple[Any, Any]] = {}

    def read(self) -> Story:
        """Raises TapetumError where it is no run, or its settings cannot be read; other damage is noted."""
        if not (self.folder / "config.yaml").is_file():
            what = "is not a run: it has no config.yaml" if self.folder.is_dir() else "is not there"
            raise TapetumError(f"{self.folder} {what}; report takes the folder of a run.")
        story = Story(self.folder, self._of("config.yaml", config.read))
        for tail in self.lines.values():
            try:
                tail.refresh()
            except OSError as error:
                story.notes.append(f"{tail.path.name} cannot be read: {error.strerror or error}.")
            if tail.damaged:
                many = (
                    f"1 line of {tail.path.name} is"
                    if tail.damaged == 1
                    else f"{tail.damaged:,} lines of {tail.path.name} are"
                )
                story.notes.append(f"{many} damaged and left out.")
        story.rows, story.health, story.skipped = (list(self.lines[name].rows) for name in LINES)
        try:
            story.results = self._of("results.json", read_results)
        except TapetumError as error:
            story.notes.append(str(error))
        story.wrote = max((stamp[0] for stamp in map(self._stamp, TRAINING) if stamp), default=0) / 1e9
        return story

    def stamp(self) -> list[tuple[int, ...] | None]:
        """What each of its files was like; equal while nothing was written."""
        names = (*TRAINING, "skipped.jsonl", "results.json", "encoder.json")
        return [self._stamp(name) for name in names]

    def _of(self, name: str, read: Callable[[Path], Any]) -> Any:
        stamp = self._stamp(name)
        if not within(self.folder / name):
            raise TapetumError(f"{name} is a link that leads out of the run's folder, and is not read.")
        if name not in self._kept or self._kept[name][0] != stamp:
            self._kept[name] = stamp, read(self.folder / name)
        return self._kept[name][1]

    def _stamp(self, name: str) -> tuple[int, ...] | None:
        try:
            found = (self.folder / name).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def read(folder: Path) -> Story:
    """A run as it stands. Raises TapetumError where the folder is no run; what is damaged in it is noted."""
    return Reader(folder).read()


# ---- in words ----


def trained(story: Story) -> str:
    """What was trained, on what, for how long."""
    s = story.settings
    weights = s.get("weights") or "none"
    began = "from random weights" if weights == "none" else f"from the weights {weights}"
    did = "trained" if story.finished else "trains"
    line = f"{s.get('method', 'A method')} {did} {s.get('encoder', 'an encoder')} {began}"
    line += f" on {s.get('data', 'images')}"
    if s.get("split"):
        line += f" (part {s['split']})"
    done = {
        "finished": f"for {story.steps or story.step:,} steps",
        "going": f"and has come to step {story.step:,} of {story.steps:,}",
        "stopped": f"and stopped after step {story.step:,} of {story.steps:,}",
        "silent": f"and was last heard of at step {story.step:,} of {story.steps:,}",
        "broken": f"and broke after step {story.step:,} of {story.steps:,}",
        "not begun": f"and has not told of a step yet, of {story.steps:,}",
    }[story.state]
    size = f" of {s['batch_size']:,} images" if is_number(s.get("batch_size")) else ""
    line += f", {done}" if story.state == "finished" else f" {done}"
    line += f"{size}, {s.get('image_size', '?')} pixels a side"
    epochs = [row["epoch"] for row in story.rows if is_number(row.get("epoch"))]
    if epochs:
        line += f": {max(epochs):.3g} passes over the images"
    minutes = cost_of(story.rows).get("minutes")
    if minutes:
        line += f" in {duration(60 * minutes)}"
    return f"{line}."


def stands(story: Story) -> str:
    """Whether it is done, and what to do if not."""
    if story.state == "finished":
        return "The run is finished."
    ago = duration(story.quiet)
    if story.state == "going":
        return f"It wrote {ago} ago, so it is probably still going; this page shows it as it was then."
    if story.state == "not begun":
        return f"It has logged nothing in the {ago} since it was made."
    if story.state == "stopped":
        return f"It was stopped {ago} ago. {onwards(story)}"
    if story.state == "broken":
        return onwards(story)
    return f"It has been silent for {ago}. {onwards(story)}"


def onwards(story: Story) -> str:
    """How a run that does not go on goes on; nothing for others."""
    again = f"Go on with: tapetum pretrain --resume {shlex.quote(str(story.folder))}"
    if story.state == "stopped":
        return f"All that it had logged is saved. {again}"
    if story.state in ("silent", "broken"):
        saved = f"its newest checkpoint is of step {story.saved:,}" if story.saved else "it has no checkpoint"
        why = "It was killed, or it hangs" if story.state == "silent" else "Its training broke"
        return f"{why}; {saved}. {again}"
    return "It has logged nothing yet." if story.state == "not begun" else ""


def healthy(story: Story) -> tuple[str, bool | None]:
    """A sentence on its health, and whether it is well; None where nothing says so."""
    if story.health:
        last = story.health[-1]
        advice = f" Try: {last['try']}" if last.get("try") else ""
        said = verdict(last).rstrip(".")
        return f"Health at step {last['step']:,}: {said}.{advice}", JUDGED.get(str(last["verdict"]), False)
    _, loss = story.series("loss")
    if len(loss) < 4:
        return "Health: too few numbers to judge.", None
    part = max(1, len(loss) // 10)
    first, last_ = sum(loss[:part]) / part, sum(loss[-part:]) / part
    words = f"The loss went from {first:.4g} to {last_:.4g}"
    for name, what in (("knn", "the share named rightly by neighbours"), ("rank", "the effective rank")):
        _, y = story.series(name)
        if len(y) > 1:
            shares = [f"{v:.1%}" if name == "knn" else f"{v:.1f}" for v in (y[0], y[-1])]
            words += f", {what} from {shares[0]} to {shares[1]}"
    return f"{words}. The run kept no record of its health, which would judge this.", None


def verdict(row: dict[str, Any]) -> str:
    """What a line of health.jsonl says of the run: a word, and why."""
    return f"{row['verdict']}: {row['why']}" if row.get("why") else str(row["verdict"])


def compared(story: Story) -> str:
    """How good it is against random weights, by the first number that both have."""
    by_id: dict[str, dict[str, Result]] = {}
    for r in story.results:
        by_id.setdefault(r.protocol_id, {})[r.row] = r
    for rows in by_id.values():
        if "encoder" in rows and len(rows) > 1:
            own = rows.pop("encoder")
            known = {"random weights": "random weights have", "pixels": "raw pixels", "start": "its start"}
            others = [f"{known.get(w, w)} {shown(rows[w])}" for w in known if w in rows]
            return f"{own.title}: {shown(own)}, where {', '.join(others)}."
    own_results = [r for r in story.results if r.row == "encoder"]
    if own_results:
        return f"{own_results[0].name}: {shown(own_results[0])}; no baseline stands beside it."
    return "How good it is was not measured yet."


def plain_settings(settings: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Settings as people read them, without those that were left open."""
    found = [(name, value) for name, value in settings.items() if value is not None and value != ""]
    return [(n, ", ".join(map(str, v)) if isinstance(v, list) else str(v)) for n, v in found]
