"""The order of an epoch: each image once, mostly forwards where that is faster, whatever the processes."""

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tapetum.base import distributed, random
from tapetum.data import open_data, stores
from tapetum.data.canvas import Canvas
from tapetum.data.order import order
from tapetum.data.stores import Layout
from tapetum.train.feed import Feed


@pytest.fixture
def layout():
    """40 runs of 1 to 60 images, whose numbers are mixed, 6 side by side."""
    lengths = np.random.default_rng(0).integers(1, 60, 40)
    return Layout(np.random.default_rng(1).permutation(np.repeat(np.arange(40), lengths)), 6)


def test_each_image_once_and_another_order_each_epoch(layout):
    n = len(layout.run)
    orders = [order(seed, epoch, n, layout) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for one in orders:
        assert torch.equal(one.sort().values, torch.arange(n))
    assert torch.equal(orders[0], order(0, 0, n, layout))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (orders[one] == orders[other]).float().mean() < 0.05


def test_few_runs_are_open_at_a_time_and_each_is_read_once(layout):
    """Where the order stands, at most six runs are begun and not yet ended."""
    run = layout.run[order(3, 4, len(layout.run), layout).numpy()]
    first = {r: int(np.flatnonzero(run == r)[0]) for r in range(40)}
    last = {r: int(np.flatnonzero(run == r)[-1]) for r in range(40)}
    most = max(sum(first[r] <= at <= last[r] for r in range(40)) for at in range(len(run)))
    assert most == 6


def test_neighbours_do_not_follow_one_another(layout):
    """Within a run images are shuffled, and the next image is mostly of another run."""
    found = order(3, 4, len(layout.run), layout).numpy()
    run = layout.run[found]
    assert (run[1:] == run[:-1]).mean() < 2 / 6
    longest = np.bincount(run).argmax()
    steps = np.diff(np.flatnonzero(layout.run == longest).searchsorted(found[run == longest]))
    assert 0.3 < (steps > 0).mean() < 0.7


def test_lanes_take_no_fixed_turns():
    run = np.arange(120) // 10
    turns = run[order(0, 0, 120, Layout(run, 6)).numpy()].reshape(-1, 6)
    assert len({tuple(turn) for turn in turns[:10].tolist()}) > 5


def test_every_run_comes_early_and_late(layout):
    n = len(layout.run)
    places = np.stack([order(0, epoch, n, layout).argsort().numpy() for epoch in range(200)])
    means = places.mean(0) / n  # of each image's place; 0.5 but for chance: 0.29 / sqrt(200) = 0.02
    assert abs(means.mean() - 0.5) < 0.01 and means.min() > 0.38 and means.max() < 0.62


def test_what_lies_in_few_runs_or_in_none_is_shuffled_as_a_whole():
    wanted = random.order(5, 6, 100)
    assert torch.equal(order(5, 6, 100), wanted)
    assert torch.equal(order(5, 6, 100, Layout(np.arange(100) % 4, 4)), wanted)


@pytest.fixture
def shards(tmp_path, png):
    for number in range(3):
        with tarfile.open(tmp_path / f"s{number}.tar", "w") as out:
            for i in range(16):
                content = png(16 * number + i)
                info = tarfile.TarInfo(f"{number}{i:02d}.png")
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
                info = tarfile.TarInfo(f"{number}{i:02d}.txt")
                out.addfile(info)
    return f"{tmp_path}/s{{0..2}}.tar"


def test_shards_are_read_forwards_by_any_number_of_processes(shards, monkeypatch):
    monkeypatch.setattr(stores, "_RUN", 4096)  # a tar of a few megabytes would be one run
    monkeypatch.setattr(stores, "_LANES", 2)
    source = open_data(shards)
    layout = source.store.layout(source.keys)
    assert layout.run.max() + 1 >= 9 and layout.lanes == 2
    assert len({(int(r), key[0]) for r, key in zip(layout.run, source.keys)}) == layout.run.max() + 1

    def steps(world, held):
        plans = []
        for rank in range(world):
            monkeypatch.setattr(distributed, "world", lambda: world)
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            canvas = Canvas(source, 8, None if held else 0, workers=0)
            feed = Feed(
                canvas,
                None,
                {},
                image_size=8,
                batch_size=8,
                micro_batch=2,
                seed=0,
                device=torch.device("cpu"),
            )
            plans.append([feed.plan(step) for step in range(12)])
        return [torch.cat(parts).tolist() for parts in zip(*plans)]

    alone = steps(1, held=False)
    assert alone == steps(2, held=False) == steps(4, held=True)
    assert sorted(i for step in alone[:6] for i in step) == list(range(48)) and alone[:6] != alone[6:]


def test_the_system_is_told_once_of_each_run_that_an_epoch_reads(shards, monkeypatch):
    monkeypatch.setattr(stores, "_RUN", 4096)
    source, told = open_data(shards), []
    monkeypatch.setattr(stores.Pread, "expect", lambda self, offset, length: told.append((self.path, offset)))
    canvas = Canvas(source, 8, 0, workers=2)
    list(canvas.iterate(canvas.order(0, 0).split(8)))
    assert len(told) == len(set(told)) == int(source.store.layout(source.keys).run.max()) + 1
    told.clear()
    source.read(0)
    assert told == []


def test_row_groups_of_parquet_are_read_once_an_epoch(tmp_path, png, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"image": [png(i) for i in range(120)]}), tmp_path / "p.parquet", row_group_size=5
    )
    source, read = open_data(tmp_path / "p.parquet"), []
    source.store.lanes = 4  # as if the groups were large
    layout = source.store.layout(source.keys)
    assert layout.run.tolist() == [i // 5 for i in range(120)] and layout.lanes == 4
    real = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda self, n, i, names: (read.extend(i), real(self, n, i, names))[1]
    )
    canvas = Canvas(
        source, 8, 0, workers=1
    )  # a second thread that is held up would come back to groups let go
    for epoch in range(2):
        read.clear()
        list(canvas.iterate(canvas.order(0, epoch).split(8)))
        assert len(read) <= 26, "24 groups, and hardly one of them twice"
    read.clear()
    source.store._forget()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(source.read, 8 * [7]))
    assert read == [1], "several threads that want a group wait for the one that reads it"
