"""Writes systems.md, the table of published systems with their proofs, from systems.jsonl (`make docs`).

A line of systems.jsonl is one system: id, name, title, area, home. Where it lives and how to run it are added
as `file` and `command` once they exist. It counts as working from the day it names its `proof`: a list of
test names ("tests/x.py::test_y") and of rows of results ({"file": "benchmarks/results/x.jsonl",
"row": {...}}, where `row` is what tells that row from the others).
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

HEAD = """# Systems

Published systems that this library is to hold, {working} of {all} at work. A system counts as working when
its proof exists: a test that would fail without it, or a row of results that one command writes again. This
page is written from [systems.jsonl](systems.jsonl) by `make docs`.

## At work
"""


def load(path: Path = HERE / "systems.jsonl") -> list[dict[str, Any]]:
    """The systems, in the order of their rows."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def link(path: str) -> str:
    return f"[{path.rsplit('/', 1)[-1]}](../{path})"


def proof(item: str | dict[str, Any]) -> str:
    """One proof as the page shows it."""
    if isinstance(item, str):
        path, name = item.split("::", 1)
        return f"{link(path)} `{name}`"
    told = ", ".join(f"{key} {value}" for key, value in item["row"].items())
    return f"{link(item['file'])} ({told})"


def page(systems: list[dict[str, Any]]) -> str:
    """The whole page, as Markdown."""
    working = [s for s in systems if s.get("proof")]
    lines = [HEAD.format(working=len(working), all=len(systems))]
    if working:
        lines += ["| row | system | where | command | proof |", "|---:|---|---|---|---|"]
    for s in working:
        named = s["title"] if s["title"].startswith(s["name"]) else f"{s['name']}: {s['title']}"
        proofs = "; ".join(proof(item) for item in s["proof"])
        lines.append(f"| {s['id']} | {named} | {link(s['file'])} | `{s['command']}` | {proofs} |")
    lines += ["", "## To come, by area", ""]
    rest: dict[str, list[str]] = {}
    for s in systems:
        if not s.get("proof"):
            rest.setdefault(s["area"], []).append(f"{s['id']} {s['name']}")
    lines += [f"- **{area}** ({len(names)}): {'; '.join(names)}." for area, names in sorted(rest.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (HERE / "systems.md").write_text(page(load()))
