"""Who is compared: runs and files of results become named subjects, with the baselines beside them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tapetum.base.errors import TapetumError, unknown
from tapetum.base.files import read_lines
from tapetum.evaluate.answers import Answers
from tapetum.evaluate.result import Result, answers_file, differences, read_results, spelt

BASELINES = ("pixels", "random weights", "start")


@dataclass
class Subject:
    """Args:
    name: of its column.
    row: "encoder", or which baseline it is, and `called` whose.
    results: by protocol id.
    files: where each of these was found, by protocol id.
    cost: parameters, flops, dim and, of a run, minutes of training and peak memory in bytes.
    """

    name: str
    row: str
    results: dict[str, Result] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    called: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """What decides its features: encoder, weights, preprocessing, layer, pooling, precision."""
        return next(iter(self.results.values())).subject

    @property
    def id(self) -> str:
        return next(iter(self.results.values())).subject_id

    def answers(self, protocol_id: str) -> Answers | None:
        """Its answers image by image; None where none are kept beside the results."""
        path = answers_file(self.files[protocol_id], self.results[protocol_id])
        return Answers.load(path) if path.exists() else None

    def add(self, results: Iterable[Result], file: Path) -> None:
        for result in results:
            self.results.setdefault(result.protocol_id, result)
            self.files.setdefault(result.protocol_id, file)
            self.cost |= result.cost
            self.called = self.called or str(result.about.get("encoder") or "")


def read(runs: Sequence[str]) -> tuple[list[Subject], list[Subject], list[str]]:
    """The subjects, in the order of `runs`, the baselines in their files, and notes.

    Each of `runs` is a run, a folder or file of results, or FILE#WHICH: the name or number of an encoder in
    it, or one of BASELINES. Raises TapetumError for what is not there, empty, or damaged.
    """
    chosen: dict[str, Subject] = {}
    others: dict[str, Subject] = {}
    notes = []
    for typed in runs:
        file, which = _file(str(typed))
        there = _subjects(file)
        for subject in _picked(there, which, str(file)):
            before = chosen.setdefault(subject.id, subject)
            if before is not subject:
                before.add(subject.results.values(), file)
                notes.append(f"{typed} holds {before.name} again: the same weights, prepared alike")
        for subject in there:
            if subject.row != "encoder":
                subject.name = subject.row
                others.setdefault(subject.id, subject).add(subject.results.values(), file)
    baselines = [subject for key, subject in others.items() if key not in chosen]
    _name_apart([*chosen.values(), *baselines])
    order = {row: i for i, row in enumerate(BASELINES)}
    return list(chosen.values()), sorted(baselines, key=lambda s: order.get(s.row, 9)), notes


def _file(typed: str) -> tuple[Path, str]:
    """The file of results that is meant, and which of its subjects."""
    path, which = Path(typed), ""
    if not path.exists() and "#" in typed:
        name, _, which = typed.rpartition("#")
        path = Path(name)
    if not path.exists():
        raise TapetumError(f"there is no {path}; compare takes runs, or files of results.")
    file = path / "results.json" if path.is_dir() else path
    if not file.exists():
        raise TapetumError(f"{path} has no results yet: measure it with `tapetum evaluate`.")
    return file, which


def _subjects(file: Path) -> list[Subject]:
    """All that were measured into one file, encoders and baselines."""
    found: dict[str, Subject] = {}
    results = read_results(file)
    if not results:
        raise TapetumError(f"{file} holds no results: measure with `tapetum evaluate`.")
    run = (file.parent / "config.yaml").exists()
    encoders = {r.subject_id for r in results if r.row == "encoder"}
    for r in results:
        called = str(r.about.get("encoder") or "")
        if len(encoders) == 1 or not called:
            called = file.resolve().parent.name if file.name == "results.json" else file.stem
            called += f" {r.subject_id[:6]}" if len(encoders) > 1 else ""
        if r.subject_id not in found:
            found[r.subject_id] = Subject(called, r.row)
            if run and r.row == "encoder":
                found[r.subject_id].cost |= training_cost(file.parent)
        found[r.subject_id].add([r], file)
    return list(found.values())


def _picked(there: list[Subject], which: str, file: str) -> list[Subject]:
    """Those that are compared: every encoder, or the one that is named."""
    encoders = [s for s in there if s.row == "encoder"]
    if not which and encoders:
        return encoders
    names = {s.name: s for s in encoders} | {s.row: s for s in there if s.row != "encoder"}
    by_number = {str(i + 1): s for i, s in enumerate(encoders)}
    if which not in names and which not in by_number:
        kind = f"subject in {file}, which FILE#NAME or FILE#NUMBER chooses:"
        raise unknown(kind, which, [*names, *by_number])
    subject = names.get(which) or by_number[which]
    if subject.row != "encoder":
        subject.name = subject.row
    return [subject]


def _name_apart(subjects: list[Subject]) -> None:
    """No two columns have one name: what is called alike is told apart by its folders, or by its id."""
    names = [s.name for s in subjects]
    for s in subjects:
        if names.count(s.name) > 1:
            folder = next(iter(s.files.values())).resolve().parent
            own = s.row == "encoder"
            s.name = f"{folder.parent.name}/{s.name}" if own else f"{s.name} of {s.called or folder.name}"
    names = [s.name for s in subjects]
    for s in subjects:
        s.name += f" {s.id[:6]}" if names.count(s.name) > 1 else ""


def training_cost(run: Path) -> dict[str, Any]:
    """{"minutes" of training, "memory" in bytes at its peak}, as far as a run's metrics.jsonl knows them."""
    path = run / "metrics.jsonl"
    return cost_of(read_lines(path) if path.exists() else [])


def cost_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same from the rows themselves."""
    times = [float(row["time"]) for row in rows if _possible(row.get("time"))]
    found: dict[str, Any] = {}
    if times:  # the clock starts again when a run is resumed
        ends = [a for a, b in zip(times, [*times[1:], 0.0]) if b < a]
        found["minutes"] = sum(ends) / 60
    if peaks := [int(row["memory"]) for row in rows if _possible(row.get("memory"))]:
        found["memory"] = max(peaks)
    return found


def _possible(value: Any) -> bool:
    """Whether seconds or bytes can be so many."""
    return isinstance(value, int | float) and 0 <= value < 1e18


# ---- what cannot be compared ----


def unmatched(subjects: Sequence[Subject], shared: Collection[str]) -> list[str]:
    """A sentence for each number that stands alone: in what its nearest relative differs, or who lacks it."""
    told: dict[tuple[str, ...], str] = {}
    single: dict[str, list[str]] = {}
    for subject in subjects:
        for result in subject.results.values():
            if result.protocol_id in shared:
                continue
            if near := _nearest(result, [other for other in subjects if other is not subject]):
                other, like = near
                names = dict.fromkeys((result.name, like.name))
                told.setdefault(
                    (*sorted((subject.name, other.name)), *sorted((result.protocol_id, like.protocol_id))),
                    f"{' and '.join(names)} of {subject.name} and {other.name} cannot be compared: their "
                    f"protocols differ in {spelt(result.protocol, like.protocol)}",
                )
            else:
                single.setdefault(subject.name, []).append(result.name)
    return [*told.values(), *(f"only {name} has: {', '.join(found)}" for name, found in single.items())]


def _nearest(result: Result, others: list[Subject]) -> tuple[Subject, Result] | None:
    """Of other subjects' results of the same protocol the one that differs from it in the fewest facts."""
    like = [
        (len(differences(result.protocol, r.protocol)), subject, r)
        for subject in others
        for r in subject.results.values()
        if r.protocol.get("name") == result.protocol.get("name")
    ]
    return min(like, key=lambda found: found[0])[1:] if like else None
