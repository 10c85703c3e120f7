"""What each of several processes reads: its own images alone, and of shards few that others read, too."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tapetum.base import distributed
from tapetum.data import open_data
from tapetum.data.canvas import Canvas
from tapetum.train.feed import Feed


def png(i: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def epoch_of(source, rank: int, world: int, monkeypatch) -> list[int]:
    """The images that a process goes through in an epoch, with no memory to hold them."""
    monkeypatch.setattr(distributed, "world", lambda: world)
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    canvas = Canvas(source, 8, 0, workers=0)
    device = torch.device("cpu")
    feed = Feed(canvas, None, {}, image_size=8, batch_size=32, micro_batch=8, seed=0, device=device)
    plans = [feed.plan(step) for step in range(feed.steps_per_epoch)]
    list(canvas.iterate(plans))
    return torch.cat(plans).tolist()


def test_a_process_reads_its_own_images_alone(tmp_path, monkeypatch):
    for i in range(64):
        (tmp_path / f"{i:02}.png").write_bytes(png(i))
    source, read = open_data(tmp_path), []
    real = type(source.store).content
    monkeypatch.setattr(
        type(source.store), "content", lambda self, key: (read.append(key), real(self, key))[1]
    )
    of_each = []
    for rank in range(2):
        read.clear()
        wanted = epoch_of(source, rank, 2, monkeypatch)
        assert sorted(read) == sorted(source.keys[i] for i in wanted)
        of_each.append(set(read))
    assert not of_each[0] & of_each[1] and len(of_each[0] | of_each[1]) == 64


def test_a_process_reads_about_its_share_of_the_row_groups(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"image": [png(i) for i in range(640)]})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=8)
    read: list[int] = []
    real = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_group", lambda self, i, names: (read.append(i), real(self, i, names))[1]
    )
    for world in (2, 4):
        shares, seen = [], []
        for rank in range(world):
            source = open_data(tmp_path / "p.parquet")
            source.store.lanes = 16
            read.clear()
            seen += epoch_of(source, rank, world, monkeypatch)
            shares.append(len(read))
        assert sorted(seen) == list(range(640))
        assert max(shares) <= 80 / world + 25, shares  # of 80 groups; without lanes in order each reads 80
