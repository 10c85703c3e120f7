"""The store as a whole: it keeps within its limit, says what it holds, and is cleared when asked."""

import os
import time

import numpy as np
import pytest

from tapetum import cli
from tapetum.base.errors import TapetumError
from tapetum.base.files import lock
from tapetum.features import cache
from tapetum.features.shelf import Shelf


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path))
    return tmp_path


def shelf(name: str, days: float, rows: int = 1000) -> Shelf:
    """4 kB a thousand rows, last used some days ago."""
    facts = {"subject": {"encoder": {"model": name}, "weights": "0123456789", "precision": "float32"}}
    one = Shelf(cache.folder() / name, {**facts, "out": "vector", "view": None})
    one.add([i.to_bytes(16, "big") for i in range(rows)], np.zeros((rows, 1), np.float32))
    moment = time.time() - 86400 * days
    os.utime(one.folder, (moment, moment))
    return one


def names() -> list[str]:
    return sorted(entry.folder.name for entry in cache.entries())


def test_what_was_not_used_for_longest_goes_first(capsys):
    shelf("old", 9), shelf("older", 10), shelf("new", 1)
    each = cache.entries()[0].bytes
    assert [entry.folder.name for entry in cache.entries()] == ["new", "old", "older"]
    cache.keep_within(3.1 * each)
    assert names() == ["new", "old", "older"]
    cache.keep_within(2.5 * each)
    assert names() == ["new", "old"]
    assert "removed" in capsys.readouterr().out
    cache.keep_within(0.5 * each, used=cache.folder() / "old")
    assert names() == ["old"], "what is in use stays"


def test_reading_is_use():
    shelf("old", 9), shelf("new", 1)
    Shelf(cache.folder() / "old", {}).read()
    assert [entry.folder.name for entry in cache.entries()] == ["old", "new"]


def test_what_a_process_is_filling_is_not_removed():
    one = shelf("old", 9)
    with (one.folder / "lock").open("a") as handle:
        lock(handle)
        cache.keep_within(0)
    assert names() == ["old"]
    cache.keep_within(0)
    assert names() == []


def test_the_command_lists_and_clears(capsys):
    shelf("old", 9), shelf("new", 1)
    found = cache.tend()
    said = capsys.readouterr().out
    assert [row["folder"].rsplit("/", 1)[1] for row in found] == ["new", "old"]
    assert "new 01234567 vector float32" in said and "9d00h ago" in said and "of at most 50.0 GB" in said
    assert len(cache.tend(clear=True, older=5)) == 1 and names() == ["new"]
    with pytest.raises(TapetumError, match="say --clear too"):
        cache.tend(older=5)
    assert cli.main(["cache", "--limit", "1kB"]) == 0 and names() == []
    shelf("new", 1)
    assert cli.main(["cache", "--clear"]) == 0 and names() == []


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20e9), ("1.5 mb", 1.5e6), ("7", 7), ("3k", 3e3), ("lots", None), ("-1GB", None)],
)
def test_sizes_as_people_type_them(text, size, monkeypatch):
    monkeypatch.setenv("TAPETUM_CACHE_LIMIT", text)
    if size is None:
        with pytest.raises(TapetumError, match="must be a size such as"):
            cache.allowed()
    else:
        assert cache.allowed() == size


def test_what_killed_processes_left_goes_after_an_hour(folder):
    one = shelf("some", 0)
    (one.folder / "orphan.npy").write_bytes(b"half")
    (one.folder / ".x.npy.abc.part").write_bytes(b"half")
    with one.filling():
        assert (one.folder / "orphan.npy").exists(), "another process may just be writing it"
    for name in ("orphan.npy", ".x.npy.abc.part"):
        os.utime(one.folder / name, (0, 0))
    with one.filling():
        left = {file.suffix for file in one.folder.iterdir()}
    assert left == {".json", ".npy", ".keys", ""} and not (one.folder / "orphan.npy").exists()
