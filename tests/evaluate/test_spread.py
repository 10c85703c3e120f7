"""Embedding on Ray is embedding on one machine: same rows, same numbers, also when a worker dies half-way."""

import os
import signal
import tarfile
import threading
import time
import types

import numpy as np
import pytest
import torch
from torch import nn

from tapetum import verbs
from tapetum.base.errors import TapetumError
from tapetum.encoders import Encoder
from tapetum.evaluate import spread
from tapetum.evaluate.embed import embed
from tapetum.evaluate.written import begun, file_of, put, written

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


@pytest.fixture
def hopeless():
    """Whether workers have died too often."""
    return [False]


@pytest.fixture
def here(monkeypatch, hopeless):
    """Ray's part played by this process: the parts in turn, in the worker's own code."""

    def answers(ray, job, todo):
        worker = object.__new__(spread.Worker)
        worker.job, worker.extractor = job, spread.Extractor(job.encoder, **job.settings)
        worker.hopeless, worker.died = hopeless[0], 7
        for number in todo:
            yield worker._said(number)

    monkeypatch.setattr(spread, "answers", answers)
    monkeypatch.setattr(spread, "library", lambda: None)
    monkeypatch.setattr(spread, "PART", 8)


def rows(out):
    """All rows of a file or a folder of parts, as columns."""
    found = parquet.read_table(out)
    x = np.array(found.column("features").to_pylist(), dtype=np.float32)
    return found.column("path").to_pylist(), x, found.column("label").to_pylist(), found.column_names


def same(a, b):
    assert a[0] == b[0] and a[2] == b[2]
    np.testing.assert_array_equal(a[1], b[1])


def test_parts_hold_what_one_file_holds(images, encoder, tmp_path, here):
    (images / "red" / "03.png").write_bytes(b"no image")
    embed(encoder, images, tmp_path / "one.parquet", batch_size=4)
    said = verbs.embed(encoder, images, out=str(tmp_path / "parts"), engine="ray", batch_size=4)
    same(rows(tmp_path / "parts"), rows(tmp_path / "one.parquet"))
    assert said["images"] == 24 and said["parts"] == 3 and said["unreadable"] == 1 and said["kept"] == 0


def test_what_is_written_stays_and_what_is_damaged_is_done_again(images, encoder, tmp_path, here):
    out = tmp_path / "parts"
    spread.embed(encoder, images, out, batch_size=4)
    before = rows(out)
    file_of(out, 0).unlink()
    file_of(out, 2).write_bytes(file_of(out, 2).read_bytes()[:-9])
    kept = file_of(out, 1).stat().st_mtime_ns
    assert spread.embed(encoder, images, out, batch_size=4)["kept"] == 1
    same(rows(out), before)
    assert file_of(out, 1).stat().st_mtime_ns == kept
    with pytest.raises(TapetumError, match="holds features of something else"):
        spread.embed(encoder, images, out, batch_size=2)
    assert spread.embed(encoder, images / "red", out, batch_size=2, overwrite=True)["parts"] == 1
    assert len(parquet.read_table(out)) == 8


def test_a_folder_of_other_things_is_left_alone(images, encoder, tmp_path, here):
    with pytest.raises(TapetumError, match="holds other files"):
        spread.embed(encoder, images, images)
    with pytest.raises(TapetumError, match="is a file"):
        spread.embed(encoder, images, tmp_path / "x.npz")


def test_shards_are_parts_of_their_own(images, encoder, tmp_path, here):
    files = sorted(images.rglob("*.png"))
    for number in range(2):
        with tarfile.open(tmp_path / f"s-{number}.tar", "w") as out:
            for i, path in enumerate(files[number * 12 : number * 12 + 12]):
                out.add(path, f"{number}{i:02d}.png")
                (tmp_path / "label").write_text(path.parent.name)
                out.add(tmp_path / "label", f"{number}{i:02d}.cls")
    pattern = f"{tmp_path}/s-{{0..1}}.tar"
    embed(encoder, pattern, tmp_path / "one.parquet", batch_size=4)
    assert spread.embed(encoder, pattern, tmp_path / "parts", batch_size=4)["parts"] == 2
    same(rows(tmp_path / "parts"), rows(tmp_path / "one.parquet"))
    assert rows(tmp_path / "parts")[3] == ["path", "features", "label", "shard"]


@pytest.fixture
def shards(images, tmp_path):
    """shards(folder, labelled) -> the pattern of two tars of equal names and lengths in any folder."""

    def make(folder, labelled=(True, True)):
        (tmp_path / folder).mkdir()
        for number, with_labels in enumerate(labelled):
            with tarfile.open(tmp_path / folder / f"s-{number}.tar", "w") as out:
                for i, path in enumerate(sorted(images.rglob("*.png"))[number::12]):
                    out.add(path, f"{number}{i:02d}.png")
                    if with_labels:
                        (tmp_path / "label").write_text(path.parent.name)
                        out.add(tmp_path / "label", f"{number}{i:02d}.cls")
        return f"{tmp_path}/{folder}/s-{{0..1}}.tar"

    return make


def test_other_labels_and_other_shards_are_something_else(shards, encoder, tmp_path, here):
    one, other, out = shards("one"), shards("other"), tmp_path / "parts"
    spread.embed(encoder, one, out, batch_size=4, labels="none")
    assert spread.embed(encoder, one, out, batch_size=4, labels="none")["kept"] == 2
    with pytest.raises(TapetumError, match="holds features of something else"):
        spread.embed(encoder, one, out, batch_size=4)
    with pytest.raises(TapetumError, match="holds features of something else"):
        spread.embed(encoder, other, out, batch_size=4, labels="none")


def test_parts_of_shards_without_labels_have_the_same_columns(shards, encoder, tmp_path, here):
    spread.embed(encoder, shards("mixed", (False, True)), tmp_path / "parts", batch_size=4)
    labels = rows(tmp_path / "parts")[2]
    assert labels[:2] == [None, None] and None not in labels[2:] and len(labels) == 4


def test_a_cluster_that_does_not_answer_is_said(monkeypatch):
    def init(address, **_):
        raise ConnectionError(f"nobody at {address}")

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    ray = types.SimpleNamespace(is_initialized=lambda: False, init=init)
    said = r"no Ray cluster can be had at 10\.0\.0\.1:6379 \(\$RAY_ADDRESS\): nobody at 10"
    with pytest.raises(TapetumError, match=said), spread.cluster(ray):
        pass


def test_facts_are_the_same_when_they_are_read_again(tmp_path):
    facts = {"subject": {"args": {"out_indices": (2, 3)}}}
    assert begun(tmp_path / "parts", 1, facts, overwrite=False) == {}
    assert begun(tmp_path / "parts", 1, facts, overwrite=False) == {}


def test_from_an_address_to_an_address(images, encoder, tmp_path, here):
    system = pytest.importorskip("fsspec", reason="fsspec is not installed").filesystem("memory")
    system.put(f"{images}/", "/spread/images", recursive=True)
    spread.embed(encoder, "memory://spread/images", "memory://spread/out", batch_size=4)
    system.get("/spread/out", f"{tmp_path}/parts", recursive=True)
    embed(encoder, images, tmp_path / "one.parquet", batch_size=4)
    same(rows(tmp_path / "parts"), rows(tmp_path / "one.parquet"))
    assert spread.embed(encoder, "memory://spread/images", "memory://spread/out", batch_size=4)["kept"] == 3
    system.rm("/spread", recursive=True)


def test_a_worker_is_killed_half_way(images, tmp_path, monkeypatch):
    """Two workers of a Ray cluster of this machine, one of which gets SIGKILL."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'tapetum[ray]'")

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.AdaptiveAvgPool2d(2), nn.Flatten())

        def forward(self, x):
            time.sleep(0.4)
            return self.net(x)

    torch.manual_seed(0)
    encoder = Encoder.wrap(Slow(), 8, name="slow").eval()
    embed(encoder, images, tmp_path / "one.parquet", batch_size=2)
    monkeypatch.setattr(spread, "PART", 2)
    out, killed = tmp_path / "parts", []

    def kill():
        while not killed:
            said = [found for number in range(12) if (found := written(file_of(out, number)))]
            if len(said) >= 4:
                killed.append(said[-1]["process"])
                os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.05)

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, object_store_memory=2**27, log_to_driver=False
    )
    try:
        threading.Thread(target=kill, daemon=True).start()
        said = spread.embed(encoder, images, out, batch_size=2)
    finally:
        killed.append(0)
        ray.shutdown()
    assert killed[0] and said["workers"] >= 3 and said["images"] == 24 and said["kept"] == 0
    same(rows(out), rows(tmp_path / "one.parquet"))


def test_workers_that_die_again_and_again_end_it(images, encoder, tmp_path, here, hopeless):
    hopeless[0] = True
    with pytest.raises(TapetumError, match="workers died 7 times"):
        spread.embed(encoder, images, tmp_path / "parts", batch_size=4)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(TapetumError, match=r"pip install 'tapetum\[ray\]'"):
        spread.library()


def test_nothing_half_written_is_taken(tmp_path):
    put(tmp_path / "part-000000.parquet", b"PAR1 not really PAR1")
    assert written(tmp_path / "part-000000.parquet") is None
    with pytest.raises(TapetumError, match="other files"):
        begun(tmp_path, 1, {}, overwrite=False)
