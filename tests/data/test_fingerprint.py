"""Fingerprints name contents: not places, times or orders; and the cache never makes them wrong."""

import os
import shutil

from tapetum.base.files import cache_dir
from tapetum.data import open_data
from tapetum.data.stores import Files


def test_place_time_and_order_do_not_matter(write, png, tmp_path):
    root = write({"a/1.png": png(1), "a/2.png": png(2), "b/3.png": png(3)})
    source = open_data(root)
    name = source.fingerprint()
    assert len(name) == 32 and source.take([2, 0, 1]).fingerprint() == name
    os.utime(root / "a/1.png", (1, 1))
    assert open_data(root).fingerprint() == name
    shutil.copytree(root, tmp_path / "elsewhere")
    assert open_data(tmp_path / "elsewhere").fingerprint() == name


def test_contents_names_and_labels_matter(write, png):
    root = write({"a/1.png": png(1), "b/2.png": png(2)})
    names = {open_data(root).fingerprint(), open_data(root, labels="none").fingerprint()}
    names.add(open_data(root).take([0]).fingerprint())
    (root / "a/1.png").write_bytes(png(3))
    names.add(open_data(root).fingerprint())
    (root / "a/1.png").rename(root / "a/4.png")
    names.add(open_data(root).fingerprint())
    assert len(names) == 5


def test_unchanged_files_are_not_read_again(write, png, monkeypatch):
    root = write({f"{i}.png": png(i) for i in range(5)})
    name = open_data(root).fingerprint()
    (root / "3.png").write_bytes(png(33))
    read = []
    content = Files.content
    monkeypatch.setattr(Files, "content", lambda self, key: (read.append(key), content(self, key))[1])
    assert open_data(root).fingerprint() != name
    assert read == ["3.png"]


def test_a_damaged_or_missing_cache_is_done_without(write, png, monkeypatch, tmp_path):
    root = write({f"{i}.png": png(i) for i in range(3)})
    name = open_data(root).fingerprint()
    base = cache_dir() / "fingerprints" / "digests.sqlite"
    base.write_bytes(b"no data base at all" * 100)
    assert open_data(root).fingerprint() == name
    assert open_data(root).fingerprint() == name and base.read_bytes()[:6] == b"SQLite"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "file"))
    assert open_data(root).fingerprint() == name


def test_an_unreadable_image_is_part_of_the_name_but_not_of_the_cache(write, png):
    root = write({"a.png": png(1), "b.png": png(2)})
    source = open_data(root)
    whole = source.fingerprint()
    (root / "b.png").unlink()
    assert source.fingerprint() != whole
    (root / "b.png").write_bytes(png(2))
    assert source.fingerprint() == whole
