"""Each hostile input ends in a sentence or in a file left out; none writes, runs, asks or fills memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hostile.guard import surroundings
from hostile.harness import CASES
from hostile.planted import HANGS, PLANTS


def harnessed(folder: Path, *planted: str) -> dict[str, dict]:
    """What came of each case, by number; one that ends the process is noted, and the rest goes on."""
    results = folder / "results.jsonl"
    results.touch()
    env = surroundings(folder)
    dead: list[dict] = []
    skip = 0
    while True:
        command = [
            *(sys.executable, "-P", "-m", "hostile.harness"),
            str(folder),
            str(results),
            *(planted or ("all",)),
            str(skip),
        ]
        ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        rows = [json.loads(line) for line in results.read_text().splitlines()]
        if ended.returncode == 0:
            break
        begun = [row["begun"] for row in rows if "begun" in row]
        assert begun and begun[-1] >= skip, ended.stderr[-3000:]
        skip = begun[-1] + 1
        dead.append(
            {
                "number": begun[-1],
                "wrong": [f"the process ended with {ended.returncode}: {ended.stderr[-500:]}"],
            }
        )
    return {str(row["number"]): row for row in [*rows, *dead] if "number" in row}


@pytest.fixture(scope="session")
def found(tmp_path_factory) -> dict[str, dict]:
    return harnessed(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="session")
def missed(tmp_path_factory) -> dict[str, dict]:
    return harnessed(tmp_path_factory.mktemp("planted"), "planted")


def test_there_are_enough_of_them_each_with_a_name():
    names = [case.name for case in CASES]
    assert len(names) >= 200 and len(set(names)) == len(names)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_it_does_no_harm(found, number):
    assert found[str(number)]["wrong"] == [], CASES[number].name


JOBS = [(f"{plant.name}: {case}", shown) for plant in PLANTS for case, shown in plant.jobs()]


@pytest.mark.parametrize("number", range(len(JOBS)), ids=[name for name, _ in JOBS])
def test_without_its_defence_it_is_seen(missed, number):
    found, (_, shown) = missed[str(number)], JOBS[number]
    assert "unplanted" not in found, "the defence is not where it is taken away"
    assert any(shown in wrong for wrong in found["wrong"]), found["wrong"]
    assert any(HANGS in wrong for wrong in found["wrong"]) == (shown == HANGS), found["wrong"]
