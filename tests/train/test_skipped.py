"""What a run left out stands in skipped.jsonl at once, each image once, and stops nothing."""

import pytest

import small_runs
import tapetum
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_lines
from tapetum.train.skipped import Skipped


def row(path, reason="truncated"):
    return {"path": path, "reason": reason}


def test_each_image_once_whoever_adds_it(tmp_path):
    path = tmp_path / "run" / "skipped.jsonl"
    one, other = Skipped(path), Skipped(path)  # of two processes
    one.add([])
    assert path.read_bytes() == b""
    one.add([row("a"), row("b"), row("a", "again")])
    other.add([row("b", "not there"), row("c")])
    one.add([row("c"), row("d")])
    other.add([row("d")])
    assert read_lines(path) == [row("a"), row("b"), row("c"), row("d")]


@pytest.mark.parametrize("half", ['{"path": "b", "rea', '{"path": "b", "reason": "truncated"}'])
def test_half_a_line_gives_way(tmp_path, half):
    path = tmp_path / "skipped.jsonl"
    Skipped(path).add([row("a")])
    path.write_text(path.read_text() + half)
    Skipped(path).add([row("b"), row("a")])
    assert read_lines(path) == [row("a"), row("b")]


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TapetumError, match="cannot write"):
        Skipped(tmp_path / "file" / "skipped.jsonl").add([row("a")])


def test_files_that_go_or_break_while_a_run_lasts_cost_one_line_each(tmp_path, write_photos, monkeypatch):
    monkeypatch.setattr("tapetum.data.canvas.free_memory", lambda: 0)
    write_photos(tmp_path)
    photos, seen = tmp_path / "flat", {}

    def watch(step, numbers):
        if step == 2:
            (photos / "3.png").unlink()
            (photos / "5.png").write_bytes((photos / "5.png").read_bytes()[:500])
        path = tmp_path / "run" / "skipped.jsonl"
        seen[step] = [line["path"] for line in read_lines(path)]

    short = {"batch_size": 2, "steps": 36, "eval_every": 9, "workers": 1, "logger": [watch]}
    done = tapetum.pretrain(photos, out=str(tmp_path / "run"), **small_runs.SMALL | short)
    assert done["steps"] == 36 and seen[1] == []
    assert sorted(seen[30]) == ["3.png", "5.png"] == sorted(seen[36])
    reasons = {line["path"]: line["reason"] for line in read_lines(tmp_path / "run" / "skipped.jsonl")}
    assert reasons["3.png"] == "no such file or directory" and "truncated" in reasons["5.png"]
