"""A machine with hostile data, settings and checkpoints is left untouched outside of the folder of runs."""

import json
import subprocess
import sys

import pytest

from hostile.guard import surroundings
from hostile.machine import DATA

MEMORY = 1500  # MB that all commands together may take beyond a process that has loaded torch


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("show")
    env = surroundings(folder)
    command = [sys.executable, "-P", "-m", "hostile.machine", str(folder)]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_nothing_changed_outside_of_the_runs(found):
    assert found["changed"] == [] and found["canaries"] == []


def test_nothing_was_written_started_asked_for_or_unpickled(found):
    assert found["events"] == []


def test_memory_stayed_within_its_limit(found):
    assert found["mb"] < MEMORY


def test_each_command_ended_with_a_result_or_one_sentence(found):
    for one in found["outcomes"]:
        assert one["code"] in (0, 2), one
        assert "Traceback" not in one["said"], one
        assert not any(c < " " and c not in "\n\t\r" for c in one["said"]), one
        if one["code"] == 2:
            assert one["said"].splitlines()[-1].startswith("error: "), one


@pytest.mark.parametrize("data", DATA)
def test_the_good_images_among_hostile_ones_are_used(found, data):
    own = [one for one in found["outcomes"] if f"runs/{data}" in one["command"]]
    used = [one for one in own if "suite.yaml" not in one["command"]]
    assert len(used) == 5 and all(one["code"] == 0 for one in used), used


def test_the_hostile_ones_are_refused(found):
    refused = (
        "call.yaml",
        "laughs.yaml",
        "reach.yaml",
        "suite.yaml",
        "--weights evil",
        "@evil",
        "--resume stranger",
    )
    for one in found["outcomes"]:
        if any(word in one["command"] for word in refused):
            assert one["code"] == 2, one
    told = {one["command"]: " ".join(one["said"].split()) for one in found["outcomes"]}
    assert "could run any code" in told["inspect evil.pt"] and "leads out" in told["inspect stranger"]
