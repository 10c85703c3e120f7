"""The order in which an epoch shows its images: a function of seed and epoch, and of how the images lie."""

import torch

from tapetum.base import random
from tapetum.data.stores import Layout


def order(seed: int, epoch: int, n: int, layout: Layout | None = None, batch: int = 1) -> torch.Tensor:
    """A permutation of range(n) [n] int64, the same on every machine and for any number of processes.

    Where reading in any order is fast, all orders are equally likely. Else the runs of a layout come in
    random order, `layout.lanes` of them side by side; each is shuffled in itself, and read once. The images
    of a batch then stand lane by lane, so that a process, whose share is a stretch of the batch, reads few
    lanes that others read, too.
    """
    if layout is None:
        return random.order(seed, epoch, n)
    run = torch.from_numpy(layout.run)  # [n]
    length = torch.bincount(run)  # [R]
    runs, lanes = len(length), layout.lanes
    if runs <= lanes:
        return _by_lane(random.order(seed, epoch, n), run, batch)
    rows = -(-runs // lanes)
    dealt = torch.full((rows * lanes,), runs)  # which run stands where; an empty one fills the last row
    dealt[:runs] = random.order(seed, epoch, runs)
    sizes = torch.cat([length, length.new_zeros(1)])[dealt].view(rows, lanes)
    begin, whole = torch.empty(
        (2, runs + 1), dtype=torch.float64
    )  # a run's start in its lane, that lane's length
    begin[dealt] = (sizes.cumsum(0) - sizes).flatten().double()
    whole[dealt] = sizes.sum(0).repeat(rows).double()

    every = torch.arange(n)
    shuffled = (run + random.uniform(seed, epoch, every, "place").double()).argsort(stable=True)
    first = (length.cumsum(0) - length)[run[shuffled]]
    place = torch.empty(n, dtype=torch.float64)  # of an image in its run
    place[shuffled] = (every - first).double()
    apart = random.uniform(seed, epoch, every, "lane").double()  # so that lanes take no fixed turns
    lane = torch.empty(runs + 1, dtype=torch.int64)
    lane[dealt] = torch.arange(len(dealt)) % lanes
    return _by_lane(((begin[run] + place + apart) / whole[run]).argsort(stable=True), lane[run], batch)


def _by_lane(shown: torch.Tensor, lane: torch.Tensor, batch: int) -> torch.Tensor:
    """An order [n] with each batch of it sorted by the lanes [n] that images are of."""
    step = torch.arange(len(shown)) // batch
    return shown[(step * (int(lane.max()) + 1) + lane[shown]).argsort(stable=True)]
