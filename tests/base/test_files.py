"""Files are written whole or not at all, also when the process is killed meanwhile."""

import subprocess
import sys
import time

import pytest

from tapetum.base import files
from tapetum.base.errors import TapetumError


def everything(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    files.write_atomic(path, "one")
    files.write_atomic(path, b"two")
    assert everything(path.parent) == {"file": "two"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a bug")])
@pytest.mark.parametrize("where", ["while it is written", "while it is synced"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, error, where):
    path = tmp_path / "file"
    path.write_text("old")

    def fails(*_):
        raise error

    if where == "while it is synced":
        monkeypatch.setattr(files, "sync", fails)
    with pytest.raises((TapetumError, RuntimeError)) as caught, files.replacing(path) as temporary:
        temporary.write_text("half of the n")
        if where == "while it is written":
            fails()
    assert everything(tmp_path) == {"file": "old"}
    if isinstance(error, OSError):
        assert str(caught.value) == f"cannot write {path}: No space left on device."
    else:
        assert caught.value is error


def test_a_writer_that_is_killed_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    program = (
        "import sys, time; from tapetum.base.files import replacing\n"
        "with replacing(sys.argv[1]) as part: part.write_text('half'); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout and writer.stdout.readline() == b"\n"
        assert "half" in everything(tmp_path).values()
        writer.kill()
    assert path.read_text() == "old"


def test_a_file_has_the_rights_that_the_user_wants(tmp_path):
    (tmp_path / "usual").touch()
    files.write_atomic(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_json_comes_back_and_damage_is_a_sentence(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(TapetumError, match="there is no file"):
        files.read_json(path)
    files.write_json(path, {"a": [1, None, "ü"]})
    assert files.read_json(path) == {"a": [1, None, "ü"]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, float("nan"))
    assert files.read_json(path) == {"a": [1, None, "ü"]}
    path.write_text("{")
    with pytest.raises(TapetumError, match="is not readable JSON"):
        files.read_json(path)


def test_lines_are_added_and_half_a_line_is_left_out(tmp_path):
    path = tmp_path / "x.jsonl"
    files.write_lines(path, [{"a": 1}])
    files.append_line(path, {"a": 2})
    path.write_text(path.read_text() + '{"a": 3')
    assert files.read_lines(path) == [{"a": 1}, {"a": 2}]
    with pytest.raises(TapetumError, match=r"cannot write .*: Is a directory\."):
        files.append_line(tmp_path, {})


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path))
    assert files.cache_dir() == tmp_path
    monkeypatch.setenv("TAPETUM_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path / str(time.time_ns())))
    assert files.cache_dir().parts[-2:] == (".cache", "tapetum")
