"""A process that feeds a parser dies, hangs or ends; the one that began it knows why, and of which input."""

import json

import pytest

import benchmark_modules

fuzz = benchmark_modules.load("fuzz")
ENGINES = ["child.engine", "lambda: None"]  # coverage, where atheris is installed, and chance alone
PLANTED = """
import os, sys
from pathlib import Path
from benchmarks.fuzzing import child, judge

child.engine = ENGINE
judge.PATIENCE = 0.2

def run(data, folder):
    if data[:1] != b"a":
        DEED

def prepared():
    return judge.Target(run, lambda: [b"a whole file"]), [b"a whole file"]

child.begin(prepared, Path(sys.argv[4]), float(sys.argv[2]), int(sys.argv[3]))
"""


@pytest.fixture(params=ENGINES)
def engine(request):
    if request.param == ENGINES[0]:
        pytest.importorskip("atheris")
    return request.param


@pytest.fixture
def fed(tmp_path, monkeypatch):
    """fed(deed, engine) -> what was counted of a parser that does this to inputs without "a" at the start."""
    monkeypatch.setattr(fuzz, "FOUND", tmp_path)

    def feed(deed, engine, seconds=5.0):
        return fuzz.feed(
            "planted", seconds, 0, ("-c", PLANTED.replace("ENGINE", engine).replace("DEED", deed))
        )

    return feed


@pytest.mark.parametrize(
    "deed, id, said",
    [
        ("os.kill(os.getpid(), 11)", "death11", "signal 11"),
        ("os._exit(7)", "death7", "code 7"),
        ("while True: pass", "death27", "signal 27"),
    ],
)
def test_an_input_that_ends_the_process_is_kept(fed, tmp_path, deed, id, said, engine):
    counted = fed(deed, engine)
    assert said in counted["findings"][id] and counted["executions"] > 0
    assert not (tmp_path / "planted" / f"crash-{id}").read_bytes().startswith(b"a")


def test_it_ends_when_its_seconds_are_over(fed, engine):
    counted = fed("pass", engine, 0.5)
    assert not counted["findings"] and counted["executions"] > 0 and counted["seconds"] >= 0.5


def test_what_goes_wrong_in_an_input_does_not_end_it(fed, tmp_path, engine):
    counted = fed("data[100]", engine, 0.5)
    [(id, why)] = counted["findings"].items()
    assert why.startswith("IndexError") and counted["executions"] > 0
    assert not (tmp_path / "planted" / f"crash-{id}").read_bytes().startswith(b"a")


def test_minutes_begin_anew_after_a_finding(tmp_path, monkeypatch):
    rows = [("zip", 3, []), ("tar", 9, ["x"]), ("zip", 4, ["y"]), ("zip", 5, []), ("zip", 6, [])]
    named = [dict(zip(("parser", "cpu_minutes", "findings"), row)) for row in rows]
    (tmp_path / "rows").write_text("".join(json.dumps(row) + "\n" for row in named))
    monkeypatch.setattr(fuzz, "ROWS", tmp_path / "rows")
    assert [fuzz.clean_minutes(name) for name in ("zip", "tar", "png")] == [11, 0, 0]
