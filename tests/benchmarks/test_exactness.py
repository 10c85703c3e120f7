"""The proofs of exactness in a tiny form, so that they do not rot."""

import shutil

import pytest

from benchmark_modules import load

rows, exactness, golden, kills, processes = map(load, ("rows", "exactness", "golden", "kills", "processes"))


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Rows, runs, curves and the page go into a folder of the test."""
    monkeypatch.setattr(golden, "FILE", tmp_path / "golden" / "curves.json")
    monkeypatch.setattr(rows, "fingerprint", lambda *folders: "c")
    for module, name in ((rows, "ROOT"), (rows, "RESULTS")):
        monkeypatch.setattr(module, name, tmp_path)
    for name, file in (("PROCESSES", "processes.jsonl"), ("KILLS", "kills.jsonl"), ("PAGE", "exactness.md")):
        monkeypatch.setattr(exactness, name, tmp_path / file)
    return tmp_path


def cells(page, name):
    """The cells of a row of the page's tables."""
    (line,) = [line for line in page.read_text().splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_methods_are_compared_once_and_the_page_shows_the_largest_difference(kept, monkeypatch):
    asked = []

    def compared(names, world, dtype, way):
        asked.append((tuple(names), world, dtype, way))
        gap = 2e-13 if dtype == "float64" else 3e-5
        found = {"loss": (gap / 2, "loss of step 1"), "gradients": (gap * world, "gradients x of step 0")}
        return {name: {**found, "apart": (0.0, "")} for name in names}

    monkeypatch.setattr(processes.alike, "compared", compared)
    for only in ("simclr", "simclr,mae", "simclr,mae"):
        processes.main(["--only", only])
    assert [names for names, *how in asked if how == [4, "float64", "whole"]] == [
        ("simclr",),
        ("mae",),
    ]
    assert len(rows.kept(exactness.PROCESSES)) == 10
    assert cells(exactness.PAGE, "simclr") == ["4e-13", "8e-13", "6e-5", "1e-4", "4e-13"]
    assert cells(exactness.PAGE, "loss")[0] == "1e-13 (simclr)"
    assert "6 of 6 are below 1e-09; in 10 of 10" in exactness.PAGE.read_text()


def test_a_run_is_killed_in_writing_resumed_and_compared(kept):
    found = kills.killed("simclr", 1, kept)
    assert found["killed"].startswith("writing the checkpoint of step") and found["differs"] == []
    one, whole = kept / "simclr" / "1", kept / "simclr" / "whole"
    shutil.copytree(whole, kept / "other")
    file = kept / "other" / "encoder.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))
    metrics = kept / "other" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"step": 24', '"step": 25'))
    assert kills.differences(kept / "other", one) == ["encoder.safetensors", "metrics.jsonl"]


def test_points_are_done_once_and_counted(kept, monkeypatch):
    def killed(name, point, folder):
        at = "writing the checkpoint of step 3: named" if point else "7 ms after step 2"
        return {"row": name, "point": point, "killed": at, "went_on_at": 3 * point, "differs": ["x"] * point}

    monkeypatch.setattr(kills, "killed", killed)
    for points in ("1", "2"):
        kills.main(["--only", "simclr,mae", "--points", points])
    assert len(rows.kept(exactness.KILLS)) == 4
    assert cells(exactness.PAGE, "mae") == ["2", "1", "1", "0, 3"]


def test_what_checkpoints_cost_is_a_ratio_in_one_run(kept):
    row = kills.cost(kept, count=32, batch=16, epochs=2, rounds=1)
    assert len(row["with"]) == len(row["without"]) == 1 and row["ratio"] > 0 and row["megabytes"] > 1
    rows.keep(exactness.KILLS, {**row, "code": "c"})
    exactness.write()
    assert "A checkpoint each epoch makes a run" in exactness.PAGE.read_text()


def test_golden_curves_are_written_on_demand_alone(kept, monkeypatch, capsys):
    monkeypatch.setattr(golden, "curve", lambda name: [2.0, 1.0])
    golden.main([])
    assert golden.kept() == {}
    golden.main(["--write"])
    monkeypatch.setattr(golden, "curve", lambda name: [2.0, 1.0 + 1e-3])
    golden.main([])
    assert "mae: 2 to 1.001, 0.001 from the kept one" in capsys.readouterr().out
    assert golden.kept()["mae"] == [2.0, 1.0]
