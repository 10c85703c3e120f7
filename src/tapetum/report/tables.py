"""The tables of a comparison: values, differences, means over all, ranks, subjects, cost."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tapetum.base.console import size
from tapetum.evaluate.run import shown
from tapetum.evaluate.scoreboard import Row, Scoreboard, correlations, overall

MOST_PAIRS = 20  # rank correlations that are shown
COSTS = {"parameters": "parameters", "flops": "FLOPs an image", "dim": "numbers an image",
         "minutes": "minutes of training", "memory": "peak memory in training"}  # fmt: skip


@dataclass
class Table:
    """keys: so many columns at the left say what a row is, where all others are subjects; else 0."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    keys: int = 0


def tables(board: Scoreboard) -> list[Table]:
    """All that is printed but for the words, without empty tables and empty columns."""
    makers = (_numbers, _apart, _overall, _ranks_alike, _subjects, _cost)
    return [_filled(part) for part in (make(board) for make in makers) if part.rows]


def _filled(one: Table) -> Table:
    there = [i for i in range(len(one.columns)) if i == 0 or any(row[i] for row in one.rows)]
    return _part(one, there, sum(i < one.keys for i in there))


def _part(one: Table, columns: list[int], keys: int) -> Table:
    rows = [[row[i] for i in columns] for row in one.rows]
    return Table(one.title, [one.columns[i] for i in columns], rows, keys)


def pieces(one: Table, width: int) -> Iterator[Table]:
    """A table whose columns are subjects as several, each of which fits into so many letters."""
    wide = [max(map(len, column)) + 2 for column in zip(one.columns, *one.rows)]
    first = list(range(one.keys))
    columns = list(first)
    for i in range(one.keys, len(wide)) if one.keys else ():
        if len(columns) > one.keys and sum(wide[c] for c in (*columns, i)) > width:
            yield _part(one, columns, one.keys)
            columns = list(first)
        columns.append(i)
    yield _part(one, columns, one.keys) if one.keys else one


def place(board: Scoreboard, row: Row) -> str:
    """Which set a row is of, where there are several."""
    return row.data if len({row.data for row in board.rows}) > 1 else ""


def label(board: Scoreboard, row: Row) -> str:
    """What a row is called: its number, and where there are several sets, on which."""
    return " on ".join(filter(None, (row.number, place(board, row))))


def _numbers(board: Scoreboard) -> Table:
    names = [s.name for s in board.all]
    rows = [
        [row.number, place(board, row), *(shown(row.results[n]) if n in row.results else "" for n in names)]
        for row in board.rows
    ]
    return Table("values ± one standard error", ["", "on", *names], rows, keys=2)


def _apart(board: Scoreboard) -> Table:
    rows = []
    for row in board.rows:
        for name, found in row.apart.items():
            only = "/".join(f"{n:,}" for n in found.only) if found.only else ""
            cells = [signed(found.value), span(*found.interval), _p(found.p)]
            cells += [_p(row.adjusted.get(name, math.nan)), "*" if row.beyond_chance(name) else "", only]
            rows.append([row.number, place(board, row), name, *cells])
    columns = ["", "on", "subject", "difference", "95 %", "p", "p (Holm)", "", "right alone"]
    return Table(f"differences from {board.reference.name}", columns, rows)


def _overall(board: Scoreboard) -> Table:
    rows = []
    for one in overall(board):
        for name in one.mean or one.rank:
            mean = f"{one.mean[name]:.3f} ± {one.error[name]:.3f}" if one.mean else ""
            gain = ""
            if name in one.gain:
                value, *interval = one.gain[name]
                gain = f"{signed(value)} {span(*interval)}"
            rank = f"{one.rank[name]:.2f}" if one.rank else ""
            rows.append([one.name, name, mean, gain, rank, f"{one.z[name]:+.2f}" if one.z else ""])
    columns = ["mean over", "subject", "value", f"over {board.reference.name}", "rank (1 is best)", "z-score"]
    return Table("over all", columns, rows)


def _ranks_alike(board: Scoreboard) -> Table:
    rows = [
        [f"{c.first} and {c.second}", f"{c.value:+.2f}", span(*c.interval)]
        for c in sorted(correlations(board), key=lambda c: c.value)
    ]
    title = f"do they rank the {len(board.subjects)} subjects alike? Spearman's correlation, lowest first"
    title += f" ({MOST_PAIRS} of {len(rows)})" if len(rows) > MOST_PAIRS else ""
    return Table(title, ["", "correlation", "95 %"], rows[:MOST_PAIRS])


def _subjects(board: Scoreboard) -> Table:
    """The facts in which the subjects differ."""
    facts = [dict(_leaves(s.facts)) for s in board.all]
    names = dict.fromkeys(name for own in facts for name in own)
    rows = [[name.replace("_", " "), *(own.get(name, "") for own in facts)] for name in names]
    columns = ["", *(s.name for s in board.all)]
    return Table("in what they differ", columns, [row for row in rows if len(set(row[1:])) > 1], keys=1)


def _leaves(facts: dict[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    """(name with dots, words) of nested facts."""
    for name, value in facts.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{within}{name}.")
        elif isinstance(value, list):
            yield within + name, ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in value)
        elif value is not None and value != "":
            yield within + name, str(value)[:12] if name == "weights" else str(value)


def _cost(board: Scoreboard) -> Table:
    rows = [
        [words, *(amount(s.cost.get(name), name) for s in board.all)]
        for name, words in COSTS.items()
        if any(name in s.cost for s in board.all)
    ]
    return Table("cost", ["", *(s.name for s in board.all)], rows, keys=1)


def amount(value: Any, name: str) -> str:
    if value is None:
        return ""
    if name == "memory":
        return size(value)
    if name == "minutes":
        return f"{value:.1f}"
    for most, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if name != "dim" and value >= most:
            return f"{value / most:.3g}{unit}"
    return f"{value:,}"


def signed(value: float) -> str:
    return f"{value:+.3f}" if abs(value) < 100 else f"{value:+.1f}"


def span(low: float, high: float) -> str:
    return f"[{signed(low)}, {signed(high)}]" if math.isfinite(high - low) else ""


def _p(p: float) -> str:
    return "" if math.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def markdown(found: Sequence[Table]) -> str:
    """The tables for a page; numbers stand right."""
    parts = []
    for one in found:
        lines = [one.columns, ["---", *["---:"] * (len(one.columns) - 1)], *one.rows]
        parts.append(
            "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        )
    return "\n\n".join(f"## {one.title}\n\n{part}" for one, part in zip(found, parts))
