"""A run as its folder tells it: settings, numbers, health, results, and in words how far it came."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tapetum.base.console import duration
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_lines
from tapetum.evaluate.result import Result, read_results
from tapetum.evaluate.run import shown
from tapetum.evaluate.subjects import training_cost
from tapetum.train import config
from tapetum.train.run import CLOCK

FRESH = 120  # seconds after its last line in which a run is taken to be going on
JUDGED = {"learning": True, "beginning": None}  # verdicts that are no warning


@dataclass
class Story:
    """Args:
    folder: of the run.
    settings: flat, as config.yaml has them.
    rows: of metrics.jsonl and health: of health.jsonl, each line a dict.
    skipped: {"path", "reason"} of what was left out.
    results: of results.json.
    quiet: seconds since it last wrote; None where it never did.
    notes: what could not be read.
    """

    folder: Path
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    health: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    quiet: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def finished(self) -> bool:
        return (self.folder / "encoder.json").exists()

    @property
    def step(self) -> int:
        """The last step that it told of."""
        return max((int(row["step"]) for row in self.rows), default=0)

    @property
    def steps(self) -> int:
        return int(self.settings.get("steps") or 0)

    @property
    def state(self) -> str:
        """ "finished", "going", "stopped" or "not begun"."""
        if self.finished:
            return "finished"
        if self.quiet is not None and self.quiet < FRESH:
            return "going"
        return "stopped" if self.rows else "not begun"

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


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read(folder: Path) -> Story:
    """Raises TapetumError where the folder is no run; what is damaged in it is noted."""
    if not (folder / "config.yaml").is_file():
        what = "is not a run: it has no config.yaml" if folder.is_dir() else "is not there"
        raise TapetumError(f"{folder} {what}; report takes the folder of a run.")
    story = Story(folder, config.read(folder / "config.yaml"))
    for name in ("metrics", "health", "skipped"):
        path = folder / f"{name}.jsonl"
        if path.exists():
            found = [row for row in _lines(path, story) if isinstance(row, dict)]
            wanted = {"metrics": "step", "health": "verdict", "skipped": "path"}[name]
            setattr(story, "rows" if name == "metrics" else name, [row for row in found if wanted in row])
    try:
        story.results = read_results(folder / "results.json")
    except TapetumError as error:
        story.notes.append(str(error))
    written = [p.stat().st_mtime for n in ("metrics.jsonl", "config.yaml") if (p := folder / n).exists()]
    story.quiet = time.time() - max(written) if written else None
    return story


def _lines(path: Path, story: Story) -> list[Any]:
    try:
        return read_lines(path)
    except (OSError, ValueError) as error:
        story.notes.append(f"{path.name} cannot be read: {error}")
        return []


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
        "not begun": f"and has not told of a step yet, of {story.steps:,}",
    }[story.state]
    size = f" of {s['batch_size']:,} images" if is_number(s.get("batch_size")) else ""
    line += f", {done}" if story.state == "finished" else f" {done}"
    line += f"{size}, {s.get('image_size', '?')} pixels a side"
    epochs = [row["epoch"] for row in story.rows if is_number(row.get("epoch"))]
    if epochs:
        line += f": {max(epochs):.3g} passes over the images"
    minutes = training_cost(story.folder).get("minutes")
    if minutes:
        line += f" in {duration(60 * minutes)}"
    return f"{line}."


def stands(story: Story) -> str:
    """Whether it is done, and what to do if not."""
    if story.state == "finished":
        return "The run is finished."
    ago = duration(story.quiet or 0)
    if story.state == "going":
        return f"It wrote {ago} ago, so it is probably still going; this page shows it as it was then."
    if story.state == "not begun":
        return f"It has logged nothing in the {ago} since it was made."
    again = f"tapetum pretrain --resume {story.folder}"
    return f"It has no encoder yet and was silent for {ago}: it was stopped. Go on with: {again}"


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
            where = f" on {own.about['set']}" if own.about.get("set") else ""
            return f"{own.name}{where}: {shown(own)}, where {', '.join(others)}."
    own_results = [r for r in story.results if r.row == "encoder"]
    if own_results:
        return f"{own_results[0].name}: {shown(own_results[0])}; no baseline stands beside it."
    return "How good it is was not measured yet."


def plain_settings(settings: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """Settings as people read them, without those that were left open."""
    found = [(name, value) for name, value in settings.items() if value is not None and value != ""]
    return [(n, ", ".join(map(str, v)) if isinstance(v, list) else str(v)) for n, v in found]
