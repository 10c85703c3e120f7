"""Images that vanish, change or hang while a run lasts, and threads that die."""

import os
import shutil
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from run_files import rows
from small_faults import assert_same, pixels, pretrain, resumed
from tapetum.base import threads
from tapetum.base.errors import TapetumError
from tapetum.base.threads import Late, Pool, read_ahead
from tapetum.data import open_data
from tapetum.data.canvas import Canvas
from tapetum.data.stores import Files
from tapetum.train import checkpoint


@pytest.fixture
def photos(tmp_path) -> Path:
    """24 images, which no memory holds: threads read them in each epoch."""
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(pixels()):
        Image.fromarray(image).save(tmp_path / "photos" / f"{i:02}.png")
    return tmp_path / "photos"


@pytest.fixture
def stream(monkeypatch) -> None:
    monkeypatch.setattr("tapetum.data.canvas.free_memory", lambda: 0)


def vanish(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def other(path: Path) -> None:
    """Another image, of the same time."""
    before = path.stat()
    Image.fromarray(255 - pixels()[0]).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def touched(path: Path) -> None:
    os.utime(path, (1e9, 1e9))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def closed(path: Path) -> None:
    """A link to nowhere."""
    path.unlink()
    path.symlink_to("nowhere")


CHANGES = {
    vanish: "no such file or directory",
    empty: "empty",
    cut: "truncated",
    longer: "changed since it was first read",
    other: "changed since it was first read",
    touched: "changed since it was first read",
    folder: "is a directory",
    closed: "no such file or directory",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_not_what_it_was_is_left_out(photos, change, workers):
    canvas = Canvas(open_data(photos), 32, memory_limit=0, workers=workers)
    told: list[dict] = []
    canvas.on_damage = told.append
    everything = torch.arange(24)
    before, _ = canvas.fetch(everything)
    change(photos / "07.png")
    after, _ = canvas.fetch(everything)
    assert told == [{"path": "07.png", "reason": CHANGES[change]}]
    assert torch.equal(after[7], before[8]) and canvas.shown(everything).tolist()[7] == 8
    before[7] = before[8]
    assert torch.equal(before, after)


def test_an_archive_that_changed_is_no_longer_trusted(photos, tmp_path):
    archive = tmp_path / "photos.zip"

    def write() -> None:
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in sorted(photos.iterdir()):
                zipped.write(path, path.name)

    write()
    canvas = Canvas(open_data(archive), 32, memory_limit=0, workers=1)
    canvas.fetch(torch.arange(24))
    write()
    with pytest.raises(TapetumError, match=r"3 of 24 images .*more than the share.*changed since it was"):
        canvas.fetch(torch.arange(24))


def test_when_too_many_vanish_all_so_far_is_saved_and_goes_on_when_they_are_back(photos, tmp_path, stream):
    def log(step, numbers):
        if step == 4 and "loss" in numbers:
            shutil.move(photos, tmp_path / "away")

    with pytest.raises(TapetumError, match=r"more than the share of 0\.1 that is allowed"):
        pretrain(tmp_path / "run", photos, steps=12, checkpoint_steps=100, logger=[log])
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found and found[1]["step"] >= 4
    assert len(rows(tmp_path / "run", "skipped.jsonl")) == 2  # the third ended it
    shutil.move(tmp_path / "away", photos)
    resumed(tmp_path / "run", photos, logger=[])
    assert [row["step"] for row in rows(tmp_path / "run") if "loss" in row] == list(range(1, 13))


# ---- reads that hang ----


@pytest.fixture
def hanging(monkeypatch):
    """After `hang.set()` reading 07.png never ends; before, there is all the time that reading takes."""
    hang, release = threading.Event(), threading.Event()
    content, wait = Files.content, threads.wait

    def read(self, key):
        if key == "07.png" and hang.is_set():
            release.wait(60)
        return content(self, key)

    monkeypatch.setattr(Files, "content", read)
    monkeypatch.setattr(threads, "wait", lambda reads, s: wait(reads, s if hang.is_set() else None))
    yield hang
    release.set()


def test_a_read_that_hangs_is_named(photos, hanging):
    canvas = Canvas(open_data(photos), 32, memory_limit=0, workers=2, timeout=0.3)
    everything = torch.arange(24)
    canvas.fetch(everything)
    hanging.set()
    with pytest.raises(
        TapetumError, match=r"reading 00.png or of one of the 15 after it has taken more than"
    ):
        canvas.fetch(everything)


def test_a_read_that_hangs_while_images_are_held(photos, hanging):
    hanging.set()
    with pytest.raises(TapetumError, match=r"gives no answer: reading .* more than 0.3 seconds"):
        Canvas(open_data(photos), 32, workers=2, timeout=0.3)


def test_a_run_whose_images_hang_is_saved_up_to_there(photos, tmp_path, stream, hanging):
    pretrain(tmp_path / "whole", photos, steps=16)

    def log(step, numbers):
        if step == 5 and "loss" in numbers:
            hanging.set()

    with pytest.raises(TapetumError, match="gives no answer"):
        pretrain(tmp_path / "run", photos, steps=16, read_timeout=0.5, logger=[log])
    found = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found and found[1]["step"] >= 5
    hanging.clear()
    resumed(tmp_path / "run", photos, read_timeout=60, logger=[])
    for name in ("run", "whole"):
        (tmp_path / name / "mishaps.jsonl").touch()
        shutil.rmtree(tmp_path / name / "checkpoints")
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_thread_that_hangs_does_not_keep_the_process():
    before = threading.active_count()
    pool, forever = Pool(2, "test"), threading.Event()
    with pytest.raises(Late) as late:
        list(read_ahead(pool, lambda i: forever.wait(60) if i == 3 else i, range(6), 4, timeout=0.2))
    assert late.value.item == 3
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("test-"))
    forever.set()
    del pool, late
    for thread in threading.enumerate():
        if thread.name.startswith("test-"):
            thread.join(5)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    "error", [ValueError, MemoryError, OSError, TimeoutError, SystemExit, RecursionError]
)
def test_what_ends_a_thread_comes_out_where_its_result_is_wanted(error):
    def work(i: int) -> int:
        if i == 2:
            raise error("in a thread")
        return i

    pool, found = Pool(2, "test"), []
    with pytest.raises(error):
        for i in read_ahead(pool, work, range(5), 2, timeout=20):
            found.append(i)
    assert found == [0, 1]
    assert list(read_ahead(pool, int, range(5), 2)) == list(range(5))  # and the pool lives


def test_the_pool_gives_what_pythons_own_gives():
    with ThreadPoolExecutor(3) as usual:
        pools = (Pool(3, "test"), usual)
        one, other_ = (list(read_ahead(pool, lambda i: i * i, range(100), 7)) for pool in pools)
    assert one == other_ == [i * i for i in range(100)]
