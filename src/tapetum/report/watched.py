"""Runs as the dashboard tells of them: found in folders, read on while they go on, as plain data."""

import os
import re
import shlex
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tapetum.base.errors import TapetumError
from tapetum.base.files import short_id
from tapetum.evaluate.run import shown
from tapetum.report import charts, story
from tapetum.report.story import Story
from tapetum.report.tail import is_number
from tapetum.train import config

DEEP = 4  # folders below the one that was named in which runs are looked for
QUIET_NUMBERS = ("step", "epoch", "time", "memory")  # of which no curve is drawn
WORDS = {"going": "running"}  # states whose name differs here


class Watched:
    """One run, its `summary` as of `revision`.

    Args:
        folder: of the run.
        name: what people see.
    """

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name
        self.id = short_id({"folder": os.fsencode(folder.resolve()).hex()})
        self.reader = story.Reader(folder)
        self.summary: dict[str, Any] = {}
        self.revision = 0
        self._read: Any = None

    def refresh(self, revision: int) -> bool:
        """Read what is new; whether the summary is another, which then is of this revision."""
        stamp = self.reader.stamp()
        if stamp == self._read and self.summary.get("state") != "running":  # only time tells of its silence
            return False
        self._read = stamp
        try:
            found = summary(self.reader.read())
        except Exception as error:  # whatever stands in its files, the other runs are shown
            why = str(error) if isinstance(error, TapetumError) else f"{type(error).__name__}: {error}"
            found = {"state": "damaged", "notes": [f"It cannot be shown: {why}"], "settings": {}}
        found |= {"id": self.id, "name": text(self.name)}
        if found == self.summary:
            return False
        self.summary, self.revision = found, revision
        return True

    def rows(self, cursor: str) -> dict[str, Any]:
        """Numbers and looks that were written after this cursor; all of them, and `fresh`, after "" or where
        the run went on from an earlier step."""
        tails = [self.reader.lines[name] for name in ("metrics", "health")]
        before = (
            [int(part) for part in cursor.split("-")] if re.fullmatch(r"\d{1,9}(-\d{1,9}){3}", cursor) else []
        )
        fresh = before[::2] != [tail.begun for tail in tails]
        starts = [0, 0] if fresh else before[1::2]
        series: dict[str, tuple[list[float], list[float]]] = {}
        for tail, start, prefix in zip(tails, starts, ("", "health.")):
            for row in tail.rows[start:]:
                for name, value in row.items():
                    if name not in QUIET_NUMBERS and is_number(value):
                        x, y = series.setdefault(prefix + text(name), ([], []))
                        x.append(float(row["step"]))
                        y.append(float(value))
        looks = [[row["step"], *judged(row)] for row in tails[1].rows[starts[1] :]]
        if fresh:
            series = {name: _thinned(*numbers) for name, numbers in series.items()}
        ends = [str(n) for tail in tails for n in (tail.begun, len(tail.rows))]
        return {"cursor": "-".join(ends), "fresh": fresh, "series": series, "looks": looks}


def _thinned(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    points = charts.thinned(x, y)
    return [p[0] for p in points], [p[1] for p in points]


def text(value: Any) -> str:
    """As a browser can have it; names of files need not be text."""
    return str(value).encode(errors="replace").decode()


def judged(row: dict[str, Any]) -> list[Any]:
    """The word of a look at a run's health, and whether it is well: true, false, or null for neither."""
    return [text(row["verdict"]), story.JUDGED.get(str(row["verdict"]), False)]


def summary(told: Story) -> dict[str, Any]:
    """What a line of the table says of a run. What is missing is said in a sentence."""
    epochs = [row["epoch"] for row in told.rows if is_number(row.get("epoch"))]
    _, knn = told.series("knn")
    _, loss = told.series("loss")
    notes = [story.onwards(told)]
    health, well = story.healthy(told)
    return {
        "state": WORDS.get(told.state, told.state),
        "wrote": round(told.wrote),
        "step": told.step,
        "steps": told.steps,
        "epoch": max(epochs, default=None),
        "epochs": e if is_number(e := told.settings.get("epochs")) else None,
        "loss": loss[-1] if loss else None,
        "knn": [knn[0], knn[-1]] if knn else None,
        "no_knn": "no labels, so no kNN" if told.rows else "not yet",
        "word": judged(told.health[-1])[0] if told.health else "",
        "well": well if told.health else None,
        "health": text(health),
        "results": results(told),
        "settings": {n: text(v) for n, v in story.plain_settings(told.settings) if n not in config.FACTS},
        "notes": [text(note) for note in [*notes, *told.notes] if note],
    }


def results(told: Story) -> list[dict[str, Any]]:
    """Of each number that was measured the encoder's value with its error, and that of random weights."""
    found = []
    for r in told.results:
        if r.row == "encoder" and is_number(r.value):
            random = [s for s in told.results if (s.row, s.protocol_id) == ("random weights", r.protocol_id)]
            found.append({
                "id": r.protocol_id,
                "name": text(r.title),
                "value": r.value,
                "shown": shown(r),
                "random": shown(random[0]) if random else "",
            })  # fmt: skip
    return found


class Dashboard:
    """All runs in some folders, of which more may come.

    Args:
        places: folders of runs, and runs.

    Raises TapetumError for a place that is no folder.
    """

    def __init__(self, places: Sequence[str]):
        self.places = [Path(place) for place in places]
        for place in self.places:
            if not place.is_dir():
                what = "is no folder" if place.exists() else "is not there"
                raise TapetumError(f"{place} {what}; ui takes a folder of runs, or the folders of runs.")
        self.runs: dict[str, Watched] = {}
        self.revision = 0
        self.lock = threading.Lock()

    def changes(self, since: int) -> dict[str, Any]:
        """Which runs there are, what is new about them after revision `since`, and where there are none."""
        with self.lock:
            self._refresh()
            new = {run.id: run.summary for run in self.runs.values() if run.revision > since}
            notes = [text(note) for place in self.places if (note := self._empty(place))]
            return {"revision": self.revision, "ids": list(self.runs), "runs": new, "notes": notes}

    def rows(self, cursors: dict[str, str]) -> dict[str, Any]:
        """New numbers of these runs, by id; see Watched.rows."""
        with self.lock:
            wanted = [(self.runs[run], cursor) for run, cursor in cursors.items() if run in self.runs]
            for run, _ in wanted:
                self._update(run)
            return {run.id: run.rows(cursor) for run, cursor in wanted}

    def run(self, id: str) -> Watched | None:
        return self.runs.get(id)

    def _refresh(self) -> None:
        known = {run.folder: run for run in self.runs.values()}
        there: dict[str, Watched] = {}
        for place in self.places:
            for folder in found(place):
                name = folder.relative_to(place).as_posix() if folder != place else folder.resolve().name
                several = len(self.places) > 1 and folder != place
                name = f"{place.resolve().name}/{name}" if several else name
                run = known.get(folder) or Watched(folder, name)
                there.setdefault(run.id, run)
        self.runs = there
        for run in there.values():
            self._update(run)

    def _update(self, run: Watched) -> None:
        if run.refresh(self.revision + 1):
            self.revision += 1

    def _empty(self, place: Path) -> str:
        """A sentence on a place without runs."""
        if any(run.folder.is_relative_to(place) for run in self.runs.values()):
            return ""
        try:
            inside = sum(1 for _ in place.iterdir())
        except OSError as error:
            return f"{place} cannot be read: {error.strerror or error}."
        held = (
            f"holds no run (a folder with a config.yaml): {inside:,} other things" if inside else "is empty"
        )
        out = shlex.quote(f"{place}/first")
        return f"{place} {held}. A run appears here when it begins: tapetum pretrain DATA --out {out}"


def found(place: Path) -> Iterator[Path]:
    """The runs at or below a place, by name; links that lead out of it are left alone."""
    top = place.resolve()

    def walk(folder: Path, deep: int) -> Iterator[Path]:
        if os.path.isfile(config := folder / "config.yaml"):  # noqa: PTH113 (raises nothing)
            if config.resolve().is_relative_to(top):
                yield folder
            return
        try:
            entries = [e for e in os.scandir(folder) if not e.is_file(follow_symlinks=False)]
        except OSError:
            return
        inner = sorted(
            Path(e.path)
            for e in entries
            if not e.name.startswith(".") and os.path.isdir(e)  # noqa: PTH112 (nor does this)
        )
        for child in inner if deep else []:
            if child.resolve().is_relative_to(top):
                yield from walk(child, deep - 1)

    yield from walk(place, DEEP)
