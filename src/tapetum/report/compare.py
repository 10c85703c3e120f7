"""A comparison as people read it: tables on the screen or in a file, the findings in words, all numbers."""

import csv
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tapetum.base.console import say, table
from tapetum.base.errors import TapetumError, unknown
from tapetum.base.files import write_atomic
from tapetum.evaluate.result import finite
from tapetum.evaluate.scoreboard import Row, Scoreboard, correlations, overall
from tapetum.evaluate.scoreboard import compare as compared
from tapetum.evaluate.subjects import Subject
from tapetum.report import dots
from tapetum.report.tables import label, markdown, pieces, signed, tables

FORMATS = (".png", ".md", ".csv", ".json")


def compare(
    runs: Sequence[str],
    against: str | None = None,
    protocols: Sequence[str] = (),
    out: Sequence[str] = (),
    overwrite: bool = False,
) -> dict[str, Any]:
    """The body of the verb `compare`; see tapetum.comparing.compare for the settings."""
    files = [Path(name) for name in out]
    for file in files:
        if file.suffix.lower() not in FORMATS:
            raise unknown("format", file.suffix or file.name, FORMATS)
        if file.exists() and not overwrite:
            raise TapetumError(f"{file} exists already; choose another --out, or add --overwrite.")
    board = compared(runs, against, protocols)
    width = shutil.get_terminal_size((120, 50)).columns
    for whole in tables(board):
        for part in pieces(whole, width):
            say(f"\n{part.title}")
            table(part.rows, part.columns)
    say()
    for line in words(board):
        say(line)
    everything = as_json(board)
    for file in files:
        write_atomic(file, _content(file.suffix.lower(), board, everything))
        say(f"wrote {file}")
    return everything


def _content(kind: str, board: Scoreboard, everything: dict[str, Any]) -> bytes | str:
    if kind == ".png":
        file = io.BytesIO()
        dots.drawn(board).save(file, "PNG", optimize=True, dpi=(200, 200))
        return file.getvalue()
    if kind == ".csv":
        return as_csv(board)
    if kind == ".md":
        return as_markdown(board)
    return json.dumps(everything, indent=1, allow_nan=False) + "\n"


# ---- words ----


def words(board: Scoreboard) -> list[str]:
    """What was found, how it was tested, and what was left out."""
    lines = []
    count = sum(len(row.adjusted) for row in board.rows)
    for s in board.tested:
        tested = [row for row in board.rows if s.name in row.adjusted]
        surely = [row for row in tested if row.beyond_chance(s.name)]
        above, below = ([row for row in surely if side * row.apart[s.name].value > 0] for side in (1, -1))
        parts = [
            f"{which} in {', '.join(f'{label(board, r)} ({signed(r.apart[s.name].value)})' for r in rows)}"
            for which, rows in (("higher", above), ("lower", below))
            if rows
        ]
        if parts:
            lines.append(f"{s.name} is beyond chance {'; and '.join(parts)} than {board.reference.name}.")
        if rest := len(tested) - len(surely):
            what = f"{rest} of {len(tested)} numbers" if surely else "any number"
            lines.append(f"{s.name} and {board.reference.name} cannot be told apart in {what}.")
    if count:
        lines.append(
            f"Beyond chance (*) is p below 0.05 after Holm's correction for all {count} comparisons: "
            "one false finding or more among them has a chance of 5 %."
            if count > 1
            else "Beyond chance (*) is p below 0.05."
        )
    if any(found.only for row in board.rows for found in row.apart.values()):
        lines.append(f"Right alone: images that {board.reference.name} / the subject alone answers rightly.")
    ways = dict.fromkeys(found.how for row in board.rows for found in row.apart.values())
    lines += [f"Tested by: {'; or '.join(ways)}."] if ways else []
    if any(row.better < 0 for row in board.rows):
        less = dict.fromkeys(row.number for row in board.rows if row.better < 0)
        lines.append(f"Less is better of {', '.join(less)}.")
    return [*lines, *(f"{line[0].upper()}{line[1:]}." for line in (*board.left_out, *board.notes))]


# ---- files ----


def as_json(board: Scoreboard) -> dict[str, Any]:
    """All numbers; what is not one is null."""
    found = {
        "reference": board.reference.name,
        "subjects": [_subject(s, s in board.baselines) for s in board.all],
        "numbers": [_number(row) for row in board.rows],
        "overall": [asdict(one) for one in overall(board)],
        "correlations": [asdict(one) for one in correlations(board)],
        "left_out": board.left_out,
        "words": words(board),
    }
    return finite(found)


def _subject(s: Subject, baseline: bool) -> dict[str, Any]:
    return {
        "name": s.name,
        "row": s.row,
        "baseline": baseline,
        "subject_id": s.id,
        "subject": s.facts,
        "cost": s.cost,
    }


def _number(row: Row) -> dict[str, Any]:
    values = {
        name: {"value": r.value, "error_bar": r.error_bar, "interval": list(r.interval), "n": r.n}
        for name, r in row.results.items()
    }
    apart = {
        name: {**asdict(found), "p_holm": row.adjusted.get(name), "beyond_chance": row.beyond_chance(name)}
        for name, found in row.apart.items()
    }
    facts = {
        "number": row.number,
        "data": row.data,
        "group": row.group,
        "protocol_id": row.id,
        "better": row.better,
    }
    return {**facts, "values": values, "differences": apart}


def as_csv(board: Scoreboard) -> str:
    """A row for each number of each subject."""
    file = io.StringIO()
    names = [
        "number",
        "data",
        "group",
        "protocol_id",
        "subject",
        "baseline",
        "value",
        "error_bar",
        "low",
        "high",
        "n",
    ]
    names += ["over", "difference", "difference_low", "difference_high", "p", "p_holm", "beyond_chance"]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    for row in board.rows:
        for s in board.all:
            if r := row.results.get(s.name):
                cells = [row.number, row.data, row.group, row.id, s.name, s in board.baselines]
                cells += [r.value, r.error_bar, *r.interval, r.n]
                if apart := row.apart.get(s.name):
                    cells += [board.reference.name, apart.value, *apart.interval, apart.p]
                    cells += [row.adjusted.get(s.name), row.beyond_chance(s.name)]
                writer.writerow([*cells, *[None] * (len(names) - len(cells))])
    return file.getvalue()


def as_markdown(board: Scoreboard) -> str:
    """All tables, then all words."""
    return "\n".join(
        ["# Comparison", "", markdown(tables(board)), "", *(f"- {line}" for line in words(board)), ""]
    )
