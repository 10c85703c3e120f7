"""A full disk: nothing that stands is touched, training goes on where it can, one line says so."""

import contextlib
import errno
import os

import pytest
import torch
from torch import nn

from run_files import rows
from small_faults import assert_same, disk_of, no_space, pretrain, resumed
from tapetum.base import files
from tapetum.base.errors import TapetumError
from tapetum.base.journal import Journal
from tapetum.train import checkpoint, config
from tapetum.train.skipped import Skipped


def times(*when: int):
    """Makes a function fail as on a full disk, the first, third ... time that it is called."""

    def wrapped(real):
        calls: list[int] = []

        def sometimes(*args, **kwargs):
            calls.append(1)
            return no_space() if len(calls) in when else real(*args, **kwargs)

        return sometimes

    return wrapped


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that had room."""
    run = tmp_path_factory.mktemp("whole") / "run"
    pretrain(run, checkpoint_steps=2)
    (run / "mishaps.jsonl").touch()
    return run


# ---- while it trains ----


def test_a_checkpoint_that_finds_no_room_is_tried_again(tmp_path, monkeypatch, capsys, whole):
    monkeypatch.setattr(checkpoint, "_write", times(1, 3)(checkpoint._write))  # of steps 2 and 4
    pretrain(tmp_path / "run", checkpoint_steps=2)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "No space left on device; earlier checkpoints are untouched. Train" in said[1]
    (tmp_path / "run" / "mishaps.jsonl").touch()
    assert_same(tmp_path / "run", whole)


def test_no_file_may_grow_for_a_while(tmp_path, capsys, whole):
    """Lines, looks at the health and checkpoints all find no room from step 3 to 5; the system refuses."""
    with contextlib.ExitStack() as full:

        def log(step, numbers):
            if "loss" in numbers and step == 3:
                full.enter_context(disk_of(100))
            if "loss" in numbers and step == 5:
                full.close()

        pretrain(tmp_path / "run", checkpoint_steps=2, logger=[log])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "metrics.jsonl: File too large. Its lines wait in memory" in said[0]
    assert "step_00000004" in said[1] and "Training goes on" in said[1]
    (tmp_path / "run" / "mishaps.jsonl").touch()
    assert_same(tmp_path / "run", whole)
    assert [row["step"] for row in rows(tmp_path / "run", "health.jsonl")] == [0, 8]


# ---- at the end, and going on ----


def test_a_last_checkpoint_without_room_ends_the_run_which_goes_on(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write", times(7)(checkpoint._write))
        with pytest.raises(
            TapetumError, match=r"step_00000008: .*No space.*earlier checkpoints are untouched"
        ):
            pretrain(tmp_path / "run", checkpoint_steps=2)
    assert [path.name for path in sorted((tmp_path / "run" / "checkpoints").iterdir())] == [
        "step_00000004",
        "step_00000006",
    ]
    resumed(tmp_path / "run")
    (tmp_path / "run" / "mishaps.jsonl").touch()
    assert_same(tmp_path / "run", whole)


def test_a_product_without_room_is_written_later(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        patch.setattr("tapetum.encoders.encoder.save_file", no_space)
        with pytest.raises(TapetumError, match=r"cannot write .*encoder.*No space left"):
            pretrain(tmp_path / "run", checkpoint_steps=2)
    assert not list((tmp_path / "run").glob("*.part"))
    resumed(tmp_path / "run")
    (tmp_path / "run" / "mishaps.jsonl").touch()
    assert_same(tmp_path / "run", whole)


def test_a_beginning_without_room_leaves_no_run(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(config, "write_atomic", lambda path, text: _refused(path))
        with pytest.raises(TapetumError, match=r"cannot write .*config.yaml: No space left"):
            pretrain(tmp_path / "run", steps=1)
    pretrain(tmp_path / "run", steps=1, resume="auto")


def _refused(path) -> None:
    with files.replacing(path):
        no_space()


# ---- the parts ----


@pytest.mark.parametrize("place", ["_write:1", "_write:2", "write_json:1", "sync:1", "sync:3", "digest:2"])
def test_wherever_writing_a_checkpoint_fails_the_one_before_stands(tmp_path, monkeypatch, place):
    name, _, which = place.partition(":")
    method = nn.Linear(3, 4)
    opt = torch.optim.AdamW(method.parameters())
    checkpoint.save(tmp_path, 1, method, opt, {"x": 1}, keep=1)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, name, times(int(which))(getattr(checkpoint, name)))
        with pytest.raises(
            TapetumError, match=r"cannot write the checkpoint .*step_00000002: .*No space left"
        ):
            checkpoint.save(tmp_path, 2, method, opt, {"x": 2}, keep=1)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list(tmp_path.glob(".*"))
    checkpoint.save(tmp_path, 3, method, opt, {"x": 3}, keep=1)
    found = checkpoint.newest(tmp_path)
    assert found and found[1]["step"] == 3 and len(list(tmp_path.iterdir())) == 1


def test_half_a_line_is_taken_back(tmp_path):
    path = tmp_path / "lines.jsonl"
    files.append_line(path, {"a": 1})
    size = path.stat().st_size
    with disk_of(size + 3), pytest.raises(TapetumError, match=r"cannot write .*File too large"):
        files.append_line(path, {"a": 2})
    assert path.stat().st_size == size
    files.append_line(path, {"a": 3})
    assert files.read_lines(path) == [{"a": 1}, {"a": 3}]


def test_lines_wait_until_there_is_room_and_one_warning_says_so(tmp_path, capsys):
    journal = Journal(tmp_path / "lines.jsonl")
    journal.add({"n": 0})
    with disk_of(0):
        for n in range(1, 4):
            journal.add({"n": n})
        with pytest.raises(TapetumError, match="File too large"):
            journal.close()
    assert files.read_lines(journal.path) == [{"n": 0}]
    journal.add({"n": 4})
    journal.close()
    assert files.read_lines(journal.path) == [{"n": n} for n in range(5)]
    assert capsys.readouterr().err.count("wait in memory") == 1


def test_what_was_left_out_is_written_when_there_is_room(tmp_path, capsys):
    skipped = Skipped(tmp_path / "skipped.jsonl")
    skipped.add([])
    gone = [{"path": name, "reason": "not there"} for name in "ab"]
    with disk_of(0):
        skipped.note(gone[0])
    assert "Left out: a (not there)" in capsys.readouterr().err
    skipped.add(gone)
    assert files.read_lines(skipped.path) == gone


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES])
def test_whatever_the_system_says_becomes_a_sentence(tmp_path, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "file"
    files.write_atomic(path, "before")
    with monkeypatch.context() as patch:
        patch.setattr(files, "sync", refuse)
        with pytest.raises(TapetumError, match=os.strerror(number)):
            files.write_atomic(path, "after")
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
