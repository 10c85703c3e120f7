"""Batches are a function of seed and step: not of processes, micro-batches, workers or where a run began."""

import pytest
import torch

from tapetum import views
from tapetum.base import distributed
from tapetum.data import open_data
from tapetum.data.canvas import Canvas
from tapetum.train.feed import Feed
from tapetum.train.sandbox import easy_images


@pytest.fixture
def source():
    pixels, _ = easy_images(40)
    return open_data(pixels)


def fed(source, start=0, steps=7, *, micro=8, limit=None, workers=0, rank=0, world=1, monkeypatch=None):
    """Index and views of the steps from `start` on: {step: (index, pixels)}."""
    if monkeypatch:
        monkeypatch.setattr(distributed, "world", lambda: world)
        monkeypatch.setattr(distributed, "rank", lambda: rank)
    feed = Feed(
        Canvas(source, 32, limit, workers=workers),
        None,
        {"a": [views.simclr(), views.byol(0.5, 0.5, size=0.5)]},
        image_size=32,
        batch_size=8,
        micro_batch=micro,
        seed=3,
        device=torch.device("cpu"),
    )
    found = {}
    for step, batch in enumerate(feed.batches(start, steps), start):
        found[step] = (batch["index"], batch["a"])
    return found


def same(found, wanted):
    for step, (index, pixels) in found.items():
        assert torch.equal(index, wanted[step][0])
        assert all(map(torch.equal, pixels, wanted[step][1]))


@pytest.mark.parametrize(
    "how", [{"micro": 2}, {"limit": 0}, {"limit": 0, "workers": 2}, {"start": 4}], ids=str
)
def test_nothing_but_seed_and_step_matters(source, how):
    found = fed(source, **how)
    assert len(found) == 7 - how.get("start", 0)
    same(found, fed(source))


def test_processes_share_the_batches_of_one(source, monkeypatch):
    wanted = fed(source)
    halves = [fed(source, rank=rank, world=2, micro=4, monkeypatch=monkeypatch) for rank in (0, 1)]
    for step, (index, pixels) in wanted.items():
        assert torch.equal(torch.cat([half[step][0] for half in halves]), index)
        for k in (0, 1):
            assert torch.equal(torch.cat([half[step][1][k] for half in halves]), pixels[k])


def test_each_epoch_shows_each_image_once_and_anew(source):
    found = fed(source, steps=10)
    first, second = (torch.cat([found[step][0] for step in range(k, k + 5)]) for k in (0, 5))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(40))
    assert not torch.equal(first, second)
    one = {int(i): x for step in range(5) for i, x in zip(found[step][0], found[step][1][0])}
    two = {int(i): x for step in range(5, 10) for i, x in zip(found[step][0], found[step][1][0])}
    assert not any(torch.equal(one[i], two[i]) for i in one)
