"""Encoders side by side: the numbers they share, how far apart and how surely, and what follows over all."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tapetum.base.errors import TapetumError, unknown
from tapetum.evaluate.compare import Difference, better, difference
from tapetum.evaluate.result import Result, differences
from tapetum.evaluate.subjects import Subject, read, unmatched
from tapetum.measure.paired import TOO_FEW, Z, holm, rank_correlation

LEVEL = 0.05  # chance of one false finding or more among all that are compared


@dataclass
class Row:
    """One number of all who have it.

    Args:
        number: what it is called, and `data`, on which set.
        group: the set's group in its suite.
        id: of the protocol.
        results: by the names of subjects and baselines.
        apart: by subject, from the reference.
        adjusted: their probabilities by Holm, over all that are compared.
    """

    number: str
    data: str
    group: str
    id: str
    results: dict[str, Result]
    apart: dict[str, Difference] = field(default_factory=dict)
    adjusted: dict[str, float] = field(default_factory=dict)

    @property
    def better(self) -> int:
        return better(next(iter(self.results.values())))

    def beyond_chance(self, name: str) -> bool:
        return self.adjusted.get(name, 1.0) < LEVEL


@dataclass
class Scoreboard:
    """Args:
    subjects: in the order in which they were named; `reference` is one of them.
    baselines: measured beside them.
    tested: whose differences from the reference are tested.
    rows: numbers that two or more of them have.
    left_out: sentences on numbers that cannot be compared.
    """

    subjects: list[Subject]
    baselines: list[Subject]
    reference: Subject
    tested: list[Subject]
    rows: list[Row]
    left_out: list[str]
    notes: list[str]

    @property
    def all(self) -> list[Subject]:
        return [*self.subjects, *self.baselines]


def compare(runs: Sequence[str], against: str | None = None, wanted: Sequence[str] = ()) -> Scoreboard:
    """Put encoders side by side and test each against the first, or against the one named.

    Baselines are shown; they are tested where they are the reference, or where there is one encoder alone.
    wanted: names of protocols, all without. Raises TapetumError where there is nothing to compare.
    """
    if not runs:
        raise TapetumError("compare needs runs or files of results, such as `tapetum compare runs/a runs/b`.")
    subjects, baselines, notes = read(runs)
    if wanted:
        _keep([*subjects, *baselines], wanted)
    reference = subjects[0]
    if against:
        names = {s.name: s for s in [*subjects, *baselines]}
        if against not in names:
            raise unknown("subject to compare with", against, names)
        reference = names[against]
        if reference in baselines:
            baselines.remove(reference)
            subjects.append(reference)
    tested = [s for s in subjects if s is not reference] or baselines
    shared = _shared(subjects if len(subjects) > 1 else [*subjects, *baselines], subjects)
    left_out = unmatched(subjects if len(subjects) > 1 else [*subjects, *baselines], shared)
    if not shared:
        why = "; ".join(left_out[:2]) if len(subjects) + len(baselines) > 1 else "it stands alone"
        raise TapetumError(f"there is nothing to compare {reference.name} with: {why}.")
    rows = _rows(shared, [*subjects, *baselines])
    baselines = [s for s in baselines if set(s.results) & set(shared)]
    found = Scoreboard(subjects, baselines, reference, tested, rows, left_out, notes)
    _test(found)
    return found


def _keep(subjects: list[Subject], wanted: Sequence[str]) -> None:
    known = {r.protocol["name"] for s in subjects for r in s.results.values()}
    for name in wanted:
        if name not in known:
            raise unknown("protocol among these results:", name, known)
    for s in subjects:
        s.results = {i: r for i, r in s.results.items() if r.protocol["name"] in wanted}


def _shared(columns: list[Subject], first: list[Subject]) -> list[str]:
    """Ids of protocols that two or more have, in the order in which they were measured."""
    known = dict.fromkeys(i for s in first for i in s.results)
    return [i for i in known if sum(i in s.results for s in columns) > 1]


def _rows(shared: list[str], columns: list[Subject]) -> list[Row]:
    rows = []
    for i in shared:
        results = {s.name: s.results[i] for s in columns if i in s.results}
        about = next((r.about for r in results.values() if r.about.get("set")), {})
        name = next(iter(results.values())).name
        rows.append(Row(name, about.get("set", ""), about.get("group", ""), i, results))
    alike: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        alike.setdefault((row.number, row.data), []).append(row)
    for group in alike.values():
        all_facts = [next(iter(row.results.values())).protocol for row in group]
        names = dict.fromkeys(name for other in all_facts for name in differences(all_facts[0], other))
        for row, facts in zip(group, all_facts if len(group) > 1 else ()):
            row.number += f" ({', '.join(f'{name} {_fact(facts, name)}' for name in names)})"
    return rows


def _fact(facts: Any, name: str) -> str:
    for part in name.split("."):
        facts = facts.get(part) if isinstance(facts, dict) else None
    return str(facts)


def _test(board: Scoreboard) -> None:
    """Fill in the differences from the reference, and Holm's probabilities over all of them."""
    kept = board.reference
    pairs = []
    for row in board.rows:
        if kept.name not in row.results:
            continue
        mine = kept.answers(row.id)
        for subject in board.tested:
            if subject.name in row.results:
                first, second = row.results[kept.name], row.results[subject.name]
                row.apart[subject.name] = difference(first, second, mine, subject.answers(row.id))
                if not math.isnan(row.apart[subject.name].p):
                    pairs.append((row, subject.name))
    for (row, name), p in zip(pairs, holm([row.apart[name].p for row, name in pairs])):
        row.adjusted[name] = p


# ---- over many numbers ----


@dataclass
class Overall:
    """A mean over several numbers that all who are compared have, by their names.

    Args:
        name: of what.
        count: numbers behind it.
        mean, error: of the values; {} where the numbers are of different kinds.
        rank: the mean rank, 1 is best; {} where more is neither better nor worse.
        z: the mean over numbers of (value - mean of all) / standard deviation of all, so that more is better.
        gain: the mean difference from the reference, and its 95 % interval.
    """

    name: str
    count: int
    mean: dict[str, float]
    error: dict[str, float]
    rank: dict[str, float]
    z: dict[str, float]
    gain: dict[str, tuple[float, float, float]]


def overall(board: Scoreboard) -> list[Overall]:
    """For each number on several sets its mean over them and over each group (VTAB, arXiv:1910.04867), and
    the mean rank and z-score over all that there is (Battle of the Backbones, arXiv:2310.19909)."""
    names = [s.name for s in (board.reference, *board.tested)]
    complete = [row for row in board.rows if all(n in row.results for n in names)]
    found = []
    for number in dict.fromkeys(row.number for row in complete):
        rows = [row for row in complete if row.number == number and row.data]
        if len(rows) > 1:
            found.append(_over(f"{number}, {len(rows)} sets", rows, names))
            groups = dict.fromkeys(row.group for row in rows if row.group)
            for group in groups if len(groups) > 1 else ():
                part = [row for row in rows if row.group == group]
                if len(part) > 1:
                    found.append(_over(f"{number}, {group}, {len(part)} sets", part, names))
    ranked = [row for row in complete if row.better]
    if len(ranked) > 1 and len(names) > 1:
        found.append(_over(f"all {len(ranked)} numbers", ranked, names, alike=False))
    return found


def _over(name: str, rows: list[Row], names: list[str], alike: bool = True) -> Overall:
    values = np.array([[row.results[n].value for n in names] for row in rows])
    errors = np.array([[row.results[n].error_bar for n in names] for row in rows])
    mean = dict(zip(names, values.mean(0).tolist())) if alike else {}
    error = dict(zip(names, (np.sqrt((errors**2).sum(0)) / len(rows)).tolist())) if alike else {}
    rank: dict[str, float] = {}
    z: dict[str, float] = {}
    if len(names) > 1 and all(row.better for row in rows):
        signed = values * np.array([[row.better] for row in rows])
        mine, others = signed[:, :, None], signed[:, None]
        places = (others > mine).sum(2) + (others == mine).sum(2) / 2 + 0.5
        rank = dict(zip(names, places.mean(0).tolist()))
        spread = signed.std(1, keepdims=True)
        scores = (signed - signed.mean(1, keepdims=True)) / np.where(spread > 0, spread, 1)
        z = dict(zip(names, scores.mean(0).tolist()))
    compared = [n for n in names if alike and all(n in row.apart for row in rows)]
    gain = {n: _gain([row.apart[n] for row in rows]) for n in compared}
    return Overall(name, len(rows), mean, error, rank, z, gain)


def _gain(parts: list[Difference]) -> tuple[float, float, float]:
    """The mean of independent differences, and its interval."""
    value = sum(part.value for part in parts) / len(parts)
    half = Z * math.hypot(*(part.error_bar for part in parts)) / len(parts)
    return value, value - half, value + half


@dataclass
class Correlation:
    """Spearman's correlation of two numbers over the subjects that have both, and its 95 % interval."""

    first: str
    second: str
    value: float
    interval: tuple[float, float]
    subjects: int


def correlations(board: Scoreboard) -> Iterator[Correlation]:
    """Whether numbers rank the subjects alike, such as linear accuracy and fine-tuned accuracy; of 5 or more.

    A number on several sets counts by its mean over them.
    """
    columns: dict[str, dict[str, list[float]]] = {}
    for row in board.rows:
        column = columns.setdefault(row.number, {})
        for s in board.subjects:
            if s.name in row.results:
                column.setdefault(s.name, []).append(row.results[s.name].value)
    means = {}
    for number, column in columns.items():
        most = max(map(len, column.values()), default=0)
        means[number] = {name: float(np.mean(v)) for name, v in column.items() if len(v) == most}
    numbers = list(means)
    for i, first in enumerate(numbers):
        for second in numbers[i + 1 :]:
            who = [name for name in means[first] if name in means[second]]
            if len(who) > TOO_FEW:
                pair = torch.tensor([[means[n][w] for w in who] for n in (first, second)]).double()
                value, interval = rank_correlation(*pair)
                if math.isfinite(value):
                    yield Correlation(first, second, value, interval, len(who))
