"""Training pixels: every image squashed to one square size, held in memory or read ahead by threads."""

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tapetum.base.console import Progress
from tapetum.base.errors import TapetumError
from tapetum.base.threads import Late, Pool, read_ahead
from tapetum.data.decode import Damaged
from tapetum.data.order import order
from tapetum.data.resize import resized
from tapetum.data.source import Source
from tapetum.data.stores import Layout

_CHUNK = 16  # images that a thread reads at a time


class Canvas:
    """All images of a source as uint8 [C, side, side], squashed, with their true sizes.

    Crops are computed in the true geometry and sampled from the canvas. Everything is decoded once and held
    in memory where it fits into `memory_limit` bytes (default: a quarter of what is free), else read ahead by
    `workers` threads (default: one a core; 0 = none), two batches or so. Neither changes a result.

    An image that cannot be read is replaced by the next one that can. It stands in `skipped`, is told to
    `on_damage` as {"path", "reason"} as soon as it is found, and `shown` says what replaced it. More than the
    share `max_damaged` of them raises TapetumError. One whose file has changed since it was first read counts
    as damaged, where the store can tell (length and time of change; from another with the same of both it
    cannot). Where threads read, a read that takes more than `timeout` seconds raises TapetumError.
    """

    def __init__(
        self,
        source: Source,
        side: int,
        memory_limit: int | None = None,
        max_damaged: float = 0.1,
        workers: int | None = None,
        fit: str = "crop",
        timeout: float | None = None,
    ):
        self.source, self.side, self.fit = source, side, fit
        self.workers = cores() if workers is None else workers
        self.max_damaged, self.timeout = max_damaged, timeout
        self._stamps = np.zeros(len(source), np.int64)  # hashes of what was read first, 0 = not yet
        self.damaged: dict[int, str] = {}
        self.on_damage: Callable[[dict[str, str]], None] | None = None
        self.pixels: torch.Tensor | None = None  # [N, C, side, side]
        self.sizes: torch.Tensor | None = None  # [N, 2], height and width
        self.pinned = False
        self._lock = threading.Lock()
        self._pool = Pool(self.workers, "tapetum-read") if self.workers else None
        if memory_limit is None:
            memory_limit = free_memory() // 4 // beside()
        if len(source) * source.form.channels * side * side <= memory_limit:
            self._hold()

    def __len__(self) -> int:
        return len(self.source)

    @property
    def in_memory(self) -> bool:
        """Whether all images are held decoded."""
        return self.pixels is not None

    @property
    def skipped(self) -> list[dict[str, str]]:
        """The images found unreadable so far, as {"path", "reason"}, in the order of the source."""
        return [self._row(i) for i in sorted(self.damaged)]

    @cached_property
    def _layout(self) -> Layout | None:
        return self.source.store.layout(self.source.keys)

    def order(self, seed: int, epoch: int, batch: int = 1) -> torch.Tensor:
        """The order [N] in which an epoch shows the images; the same whether they are held or not."""
        return order(seed, epoch, len(self), self._layout, batch)

    def shown(self, indices: torch.Tensor) -> torch.Tensor:
        """Which images [B] were really given for these fetched indices [B]: damaged ones have stand-ins."""
        if not self.damaged:
            return indices
        return torch.tensor([self._stand_in(i) for i in indices.tolist()], device=indices.device)

    def fetch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images of indices [B] -> pixels uint8 [B, C, side, side] and true sizes float32 [B, 2] (h, w)."""
        return next(self.iterate([indices]))

    def iterate(self, batches: Iterable[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """`fetch` of each of these index tensors in turn; threads read ahead where images are not held."""
        if self.pixels is not None and self.sizes is not None:
            for indices in batches:
                here = indices.to(self.pixels.device)
                out = self._room(len(indices)) if self.pixels.device.type == "cpu" else None
                yield torch.index_select(self.pixels, 0, here, out=out), self.sizes[indices]
            return
        todo = iter(batches)
        first = next(todo, None)
        if first is None:
            return
        ahead = max(4 * self.workers, 2 * -(-len(first) // _CHUNK))
        parts = self._parts(itertools.chain([first], todo))
        with self._answering(lambda part: [part[0][row] for row in part[1]]):
            for pixels, sizes, last in read_ahead(self._pool, self._fill, parts, ahead, self.timeout):
                if last:
                    yield pixels, sizes

    def to(self, device: torch.device | str) -> "Canvas":
        """Bring the images close to a device: held ones move there if they take up to a quarter of its free
        memory, others will get to a GPU through pinned memory."""
        device = torch.device(device)
        gpu = self.pinned = device.type == "cuda"
        if self.pixels is not None and (
            not gpu or self.pixels.nbytes <= torch.cuda.mem_get_info(device)[0] // 4
        ):
            self.pixels = self.pixels.to(device)
        return self

    # ---- reading ----

    def _room(self, images: int) -> torch.Tensor:
        """Pixels [images, C, side, side], to be filled."""
        shape = (images, self.source.form.channels, self.side, self.side)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=self.pinned)

    def _parts(
        self, batches: Iterable[torch.Tensor]
    ) -> Iterator[tuple[list[int], range, torch.Tensor, torch.Tensor]]:
        """What each thread gets at a time: the images of a batch, which rows of it to fill, and the batch."""
        for batch in batches:
            images, pixels, sizes = batch.tolist(), self._room(len(batch)), torch.empty(len(batch), 2)
            self._expect(images)
            for start in range(0, len(images), _CHUNK):
                yield images, range(start, min(start + _CHUNK, len(images))), pixels, sizes

    def _fill(
        self, part: tuple[list[int], range, torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """Read these rows of a batch into their place; True with the last ones."""
        images, rows, pixels, sizes = part
        into, true = pixels.numpy(), sizes.numpy()
        for row in rows:
            into[row], true[row] = self._read(images[row])
        return pixels, sizes, rows.stop == len(images)

    def _expect(self, images: Iterable[int]) -> None:
        for i in images:
            if i not in self.damaged:
                self.source.store.expect(self.source.keys[i])

    def _read(self, i: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Image i, or where that is damaged the next that is not."""
        while True:
            if i not in self.damaged:
                try:
                    found = squash(self.source, i, self.side, self.fit)
                    self._unchanged(i)
                    return found
                except Damaged as error:
                    self._record(i, str(error))  # which gives up before none is left
            i = (i + 1) % len(self)

    def _unchanged(self, i: int) -> None:
        """Raises Damaged where the file of image i is not the one that was read before."""
        store = self.source.store
        if stamp := store.stamp(self.source.keys[i]) if store.near else None:
            if self._stamps[i] not in (0, hash(stamp)):
                raise Damaged("changed since it was first read")
            self._stamps[i] = hash(stamp)

    @contextlib.contextmanager
    def _answering(self, images: Callable[[Any], Iterable[int]]) -> Iterator[None]:
        """Says which images a read that never ends was for."""
        try:
            yield
        except Late as late:
            first, *more = images(late.item)
            others = f" or of one of the {len(more)} after it" if more else ""
            raise TapetumError(
                f"{self.source.name} gives no answer: reading {self.source.paths[first]}{others} has taken "
                f"more than {self.timeout:g} seconds (--read-timeout); look at the disk or the network."
            ) from None

    def _hold(self) -> None:
        """Decode everything once."""
        count = len(self)
        self.pixels, self.sizes = self._room(count), torch.zeros(count, 2)
        pixels, sizes = self.pixels.numpy(), self.sizes.numpy()

        def fill(part: range) -> int:
            self._expect(part)
            for i in part:
                try:
                    pixels[i], sizes[i] = squash(self.source, i, self.side, self.fit)
                except Damaged as error:
                    self._record(i, str(error))
            return len(part)

        parts = (range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
        with Progress(count, "reading images") as progress, self._answering(list):
            for done in read_ahead(self._pool, fill, parts, 4 * self.workers, self.timeout):
                progress.advance(done)
        for i in self.damaged:
            self.pixels[i], self.sizes[i] = self.pixels[self._stand_in(i)], self.sizes[self._stand_in(i)]

    # ---- damage ----

    def _row(self, i: int) -> dict[str, str]:
        return {"path": self.source.paths[i], "reason": self.damaged[i]}

    def _record(self, i: int, reason: str) -> None:
        """Note a damaged image; too many of them end it all."""
        with self._lock:
            if i in self.damaged:
                return
            self.damaged[i] = reason
            if len(self.damaged) > min(int(self.max_damaged * len(self)), len(self) - 1):
                first = "; ".join(f"{row['path']}: {row['reason']}" for row in self.skipped[:3])
                raise TapetumError(
                    f"at least {len(self.damaged):,} of {len(self):,} images of {self.source.name} cannot be "
                    f"read, more than the share of {self.max_damaged:g} that is allowed ({first})."
                )
            if self.on_damage:
                self.on_damage(self._row(i))

    def _stand_in(self, i: int) -> int:
        while i in self.damaged:
            i = (i + 1) % len(self)
        return i


def squash(source: Source, i: int, side: int, fit: str = "crop") -> tuple[np.ndarray, tuple[int, int]]:
    """Image i as uint8 [C, side, side] and its true (height, width); raises Damaged.

    An image of just that size passes bit for bit. With fit "pad" black makes it a square first; with "squash"
    its size is said to be square, so that a crop of it is distorted as the whole is.
    """
    pixels, size = source.read_sized(i, 0 if fit == "pad" and source.store.squares else side)  # [H, W, C]
    if fit == "squash":
        size = (side, side)
    elif fit == "pad" and size[0] != size[1]:
        height, width, channels = pixels.shape
        most = max(height, width)
        square = np.zeros((most, most, channels), dtype=np.uint8)
        top, left = (most - height) // 2, (most - width) // 2
        square[top : top + height, left : left + width] = pixels
        pixels, size = square, (max(size), max(size))
    return resized(pixels, (side, side)).transpose(2, 0, 1), size


def typical_side(source: Source) -> int:
    """The median shorter side of a few images, as far as the store has kept it."""
    sides = []
    for i in range(0, len(source), max(1, len(source) // 32)):
        try:
            sides.append(min(source.size(i)))
        except Damaged:
            continue
    if not sides:
        raise TapetumError(f"none of the images looked at in {source.name} can be read.")
    side = sorted(sides)[len(sides) // 2]
    return min(side, source.store.side or side)


def beside() -> int:
    """How many processes train together on this machine, this one among them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def cores() -> int:
    """This process's share of the cores that it may use."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, here // beside())


def free_memory() -> int:
    """Bytes of memory that can be had now, within the limits of a container."""
    found = [2**33]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")] or found
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            found.append(int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return max(0, min(found))
