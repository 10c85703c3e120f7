"""The table of systems promises only what can be found: files, commands, tests and rows of results."""

import ast
import importlib.util
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tapetum import cli
from tapetum.base import settings
from tapetum.base.errors import TapetumError
from tapetum.methods import find
from tapetum.verbs import VERBS

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("build_systems", ROOT / "docs" / "build_systems.py")
assert spec and spec.loader
build_systems = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build_systems)
SYSTEMS = build_systems.load()


def test_names(path: Path) -> set[str]:
    """The tests that a file defines, as pytest names them (without parameters)."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return {name for name in names if name.split("::")[-1].startswith("test")}


test_names.__test__ = False  # type: ignore[attr-defined]


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a results file: JSON lines, or one JSON list."""
    text = path.read_text()
    return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]


def refused(command: str) -> str | None:
    """What the command line has against a command, or None; nothing is run."""
    try:
        verb, given = cli.read(shlex.split(command)[1:])
        settings.check("setting", given, VERBS[verb])
        if "method" in given:
            settings.check("method setting", given.get("method_settings", {}), find(given["method"]))
    except TapetumError as error:
        return f"`{command}` is refused: {error}"
    return None


def wrong_with(system: dict[str, Any], root: Path = ROOT) -> list[str]:
    """Every promise of a system that does not hold."""
    name, wrong = f"{system['id']} {system['name']}", []
    if system.get("proof"):
        wrong += [f"{name}: works, but names no {key}" for key in ("file", "command") if not system.get(key)]
    if problem := refused(system.get("command") or "tapetum methods"):
        wrong.append(f"{name}: {problem}")
    if "file" in system and not (root / system["file"]).is_file():
        wrong.append(f"{name}: there is no {system['file']}")
    if "proof" in system and not system["proof"]:
        wrong.append(f"{name}: its proof is empty")
    for proof in system.get("proof", []):
        file, _, test = proof.partition("::") if isinstance(proof, str) else (proof["file"], "", "")
        if not (root / file).is_file():
            wrong.append(f"{name}: there is no {file}")
        elif isinstance(proof, str):
            if test.split("[")[0] not in test_names(root / file):
                wrong.append(f"{name}: {file} has no test {test!r}")
        elif not proof["row"] or not any(proof["row"].items() <= row.items() for row in rows(root / file)):
            wrong.append(f"{name}: {file} has no row {proof['row']}")
    return wrong


def test_every_published_system_has_its_row():
    assert [s["id"] for s in SYSTEMS] == list(range(532))
    assert all(s["name"] and s["title"] and s["area"] and s["home"] for s in SYSTEMS)


def test_every_promise_holds():
    assert [line for system in SYSTEMS for line in wrong_with(system)] == []


def test_the_page_is_what_the_data_say():
    page = (ROOT / "docs" / "systems.md").read_text()
    assert page == build_systems.page(SYSTEMS), "docs/systems.md is out of date: say `make docs`"
    working = sum(bool(s.get("proof")) for s in SYSTEMS)
    assert f"{working} of 532" in page


GOOD: dict[str, Any] = {
    "id": 1,
    "name": "A",
    "title": "About A",
    "area": "x",
    "home": "y",
    "file": "src/a.py",
    "command": "tapetum pretrain DATA",
    "proof": [
        "tests/test_a.py::test_it[one]",
        "tests/test_a.py::TestA::test_that",
        {"file": "a.jsonl", "row": {"method": "a"}},
    ],
}


@pytest.mark.parametrize(
    "change",
    [
        {"file": "src/b.py"},
        {"file": None},
        {"command": ""},
        {"command": "tapetum train DATA"},
        {"command": "tapetum pretrain DATA --epoch 3"},
        {"command": "tapetum pretrain DATA --method simcrl"},
        {"command": "tapetum pretrain DATA --method simclr --method.temprature 0.1"},
        {"proof": []},
        {"proof": ["tests/test_b.py::test_it"]},
        {"proof": ["tests/test_a.py::test_other"]},
        {"proof": ["tests/test_a.py::helper"]},
        {"proof": ["tests/test_a.py"]},
        {"proof": [{"file": "b.jsonl", "row": {"method": "a"}}]},
        {"proof": [{"file": "a.jsonl", "row": {"method": "b"}}]},
        {"proof": [{"file": "a.jsonl", "row": {}}]},
    ],
)
def test_a_broken_promise_is_found(tmp_path, change):
    (tmp_path / "src").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "src" / "a.py").write_text("")
    code = "def test_it(): ...\ndef helper(): ...\nclass TestA:\n    def test_that(self): ...\n"
    (tmp_path / "tests" / "test_a.py").write_text(code)
    (tmp_path / "a.jsonl").write_text('{"method": "a", "value": 1}\n')
    assert wrong_with(GOOD, tmp_path) == []
    bad = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    assert len(wrong_with(bad, tmp_path)) == 1


def test_the_page_shows_where_the_proof_is():
    other = {"id": 2, "name": "B", "title": "About B", "area": "x", "home": "y"}
    page = build_systems.page([GOOD, other])
    assert "1 of 2" in page
    assert "[a.py](../src/a.py)" in page and "[test_a.py](../tests/test_a.py) `test_it[one]`" in page
    assert "[a.jsonl](../a.jsonl) (method a)" in page
    assert "**x** (1): 2 B." in page
