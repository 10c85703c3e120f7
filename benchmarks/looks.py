"""Looks at the health of runs, kept so that the judge as it stands can be asked again."""

import json
from typing import Any

from benchmarks import rows
from tapetum.train.health.judge import Verdict, judge

ROWS = "looks.jsonl"  # of the runs of the learning table


def short(look: dict) -> dict:
    """A look with its numbers rounded and without its verdict, which is asked for anew."""
    said = {n: v for n, v in look.items() if n not in ("verdict", "why", "try")}
    return json.loads(json.dumps(said), parse_float=lambda text: float(f"{float(text):.7g}"))


def judged(history: list[dict]) -> list[Verdict]:
    """What the judge as it stands says at each look."""
    return [judge(history[: i + 1]) for i in range(len(history))]


def key(row: dict) -> tuple[str, int, str]:
    """What names a run of the learning table."""
    return row["row"], row["seed"], row.get("recipe", "")


def keep(row: dict, history: list[dict]) -> None:
    """Keep the looks of a run beside its row."""
    own = dict(zip(("row", "seed", "recipe"), key(row)))
    rows.keep(rows.RESULTS / ROWS, own | {"history": [short(look) for look in history]})


def judged_again(found: list[dict]) -> list[dict[str, Any]]:
    """Rows whose `health` and `alarms` are those of the judge as it stands, where looks were kept."""
    known = {key(row): row["history"] for row in rows.kept(rows.RESULTS / ROWS)}
    return [{**row, **said(known[key(row)])} if key(row) in known else row for row in found]


def said(history: list[dict]) -> dict[str, Any]:
    """The last word, each look that called the run sick, and how many looks there were."""
    verdicts = judged(history)
    alarms = [f"{one.word} at {look['step']}" for one, look in zip(verdicts, history) if one.sick]
    return {"health": verdicts[-1].word, "alarms": alarms, "looks": len(history)}
