"""Two starts of the same run: one trains, the other is told who does; a lock left over blocks nobody."""

import json
import os
import socket
import subprocess
import sys

import pytest

from small_faults import pretrain
from tapetum.base.errors import TapetumError
from tapetum.train import claim, resume
from tapetum.train.claim import Claim

HERE = socket.gethostname()


def holder(process: int, host: str = HERE) -> str:
    return json.dumps({"process": process, "host": host, "since": "2030-01-01 00:00:00"})


def gone() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_second_is_told_who_has_it(tmp_path):
    folder = tmp_path / "run"
    with Claim(folder):
        (folder / "config.yaml").touch()
        with pytest.raises(
            TapetumError, match=rf"is being trained by process {os.getpid()} on {HERE}, since"
        ):
            Claim(folder).__enter__()
        with pytest.raises(TapetumError, match="wait for it or stop it"):
            Claim(folder).__enter__()
    with Claim(folder):
        pass


def test_the_second_start_of_a_run_changes_nothing(tmp_path):
    run = tmp_path / "run"
    with Claim(run):
        before = sorted(path.name for path in run.iterdir())
        with pytest.raises(TapetumError, match="is being trained by"):
            pretrain(run, steps=1)
        assert sorted(path.name for path in run.iterdir()) == before


def test_it_is_free_after_a_run_and_when_one_fails(tmp_path):
    with pytest.raises(TapetumError):
        pretrain(tmp_path / "run", steps=1, method="nothing")
    assert not (tmp_path / "run").exists()
    with pytest.raises(TapetumError, match="batch_size"):
        pretrain(tmp_path / "run", steps=1, batch_size=1000)
    assert not (tmp_path / "run").exists()
    with Claim(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()
    pretrain(tmp_path / "run", steps=1)
    with Claim(tmp_path / "run"):
        assert (tmp_path / "run" / "encoder.safetensors").exists()


def test_a_lock_of_a_process_that_was_killed_is_none(tmp_path):
    code = "import sys, time; from pathlib import Path; from tapetum.train.claim import Claim\n"
    code += "claim = Claim(Path(sys.argv[1])); claim.__enter__(); print('taken', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "taken\n"
    with pytest.raises(TapetumError, match=f"process {process.pid} on"):
        Claim(tmp_path).__enter__()
    process.kill()
    process.wait()
    assert claim.said(tmp_path / ".lock")["process"] == process.pid  # it could not say that it ended
    with Claim(tmp_path):
        assert claim.said(tmp_path / ".lock")["process"] == os.getpid()


@pytest.mark.parametrize(
    "text, free",
    [
        (lambda: holder(os.getppid()), False),
        (lambda: holder(gone()), True),
        (lambda: holder(os.getpid()), True),
        (lambda: holder(12, "another-host"), False),
        (str, True),
        (lambda: "{", True),
        (lambda: "[1]", True),
        (lambda: holder(-5).replace("-5", '"x"'), True),
    ],
    ids=["alive", "dead", "itself", "elsewhere", "empty", "half", "a list", "no number"],
)
def test_without_locks_of_the_system_the_file_is_believed(tmp_path, monkeypatch, text, free):
    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(claim.fcntl, "flock", none)
    (tmp_path / ".lock").write_text(text())
    if free:
        with Claim(tmp_path):
            assert claim.said(tmp_path / ".lock")["process"] == os.getpid()
    else:
        with pytest.raises(TapetumError, match=r"no longer there, remove .*\.lock"):
            Claim(tmp_path).__enter__()


def test_whoever_waits_for_a_file_that_was_removed_takes_the_new_one(tmp_path, monkeypatch):
    tries: list[int] = []
    same = Claim._same

    def removed_once(self):
        if not tries:
            tries.append(1)
            self.path.unlink()
            self.path.touch()
        return same(self)

    monkeypatch.setattr(Claim, "_same", removed_once)
    with Claim(tmp_path) as found:
        assert found.file and os.path.samestat(os.fstat(found.file.fileno()), (tmp_path / ".lock").stat())
        with pytest.raises(TapetumError):
            Claim(tmp_path).__enter__()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TapetumError, match="cannot write"):
        Claim(tmp_path / "file" / "run").__enter__()


def test_a_lock_that_is_left_over_does_not_hinder_a_new_run(tmp_path):
    (tmp_path / ".lock").write_text(holder(gone()))
    assert resume.where(None, tmp_path, plan=False) == (False, tmp_path)
    assert resume.where("auto", tmp_path, plan=False) == (False, tmp_path)
