"""Training pixels: every image squashed to one square size, held in memory or read ahead by workers."""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tapetum.base.console import Progress
from tapetum.base.errors import TapetumError
from tapetum.data.decode import Damaged
from tapetum.data.source import Source

_Part = tuple[np.ndarray, np.ndarray, dict[int, str]]  # pixels, sizes, what was damaged and why
_CHUNK = 64  # images that a thread decodes before it reports


class Canvas:
    """All images of a source as uint8 [C, side, side], squashed, with their true sizes.

    Crops are computed in the true geometry and sampled from the canvas. Everything is decoded once and held
    in memory where it fits into `memory_limit` bytes (default: a quarter of what is free), else read by
    `workers` processes (default: one a core; 0 = none) that work ahead. Neither changes a result.

    An image that cannot be read is replaced by the next one that can, and stands in `skipped`; `shown` says
    by which. More than the share `max_damaged` of them raises TapetumError.
    """

    def __init__(
        self,
        source: Source,
        side: int,
        memory_limit: int | None = None,
        max_damaged: float = 0.1,
        workers: int | None = None,
        fit: str = "crop",
    ):
        self.source, self.side, self.fit = source, side, fit
        self.workers = cores() if workers is None else workers
        self.max_damaged = max_damaged
        self.damaged: dict[int, str] = {}
        self.pixels: torch.Tensor | None = None  # [N, C, side, side]
        self.sizes: torch.Tensor | None = None  # [N, 2], height and width
        self._loader: DataLoader | None = None
        self._batches = _Batches()
        if memory_limit is None:
            memory_limit = free_memory() // 4 // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
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
        """The images found unreadable so far, as {"path", "reason"}, each once."""
        return [{"path": self.source.paths[i], "reason": self.damaged[i]} for i in self.damaged]

    def shown(self, indices: torch.Tensor) -> torch.Tensor:
        """Which images [B] were really given for these fetched indices [B]: damaged ones have stand-ins."""
        if not self.damaged:
            return indices
        return torch.tensor([self._stand_in(i) for i in indices.tolist()], device=indices.device)

    def fetch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images of indices [B] -> pixels uint8 [B, C, side, side] and true sizes float32 [B, 2] (h, w)."""
        if self.pixels is not None and self.sizes is not None:
            return self.pixels.index_select(0, indices.to(self.pixels.device)), self.sizes[indices]
        threads = max(1, min(self.workers, len(indices)))
        parts = [part.tolist() for part in indices.cpu().tensor_split(threads)]
        reader = self._reader()
        if threads == 1:
            return self._take(reader[parts[0]])
        with ThreadPoolExecutor(threads) as pool:
            done = [self._take(part) for part in pool.map(reader.__getitem__, parts)]
        return torch.cat([pixels for pixels, _ in done]), torch.cat([sizes for _, sizes in done])

    def iterate(self, batches: Iterable[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """`fetch` of each of these index tensors in turn; workers read ahead where images are not held."""
        if self.in_memory or not self.workers:
            yield from map(self.fetch, batches)
            return
        if self._loader is None:
            self._loader = DataLoader(
                self._reader(),  # type: ignore[arg-type]
                batch_size=None,
                sampler=self._batches,
                collate_fn=_unchanged,
                num_workers=self.workers,
                persistent_workers=True,
                worker_init_fn=_begin,
                generator=torch.Generator(),  # else each epoch would draw from the generator of dropout
            )
        self._batches.batches = batches
        yield from map(self._take, self._loader)

    def to(self, device: torch.device | str) -> "Canvas":
        """Move the held images to a device, so that batches are born there, if they take up to a quarter of
        its free memory; no effect where none are held."""
        device = torch.device(device)
        if self.pixels is None:
            return self
        if device.type != "cuda" or self.pixels.nbytes <= torch.cuda.mem_get_info(device)[0] // 4:
            self.pixels = self.pixels.to(device)
        return self

    def _reader(self) -> "_Reader":
        return _Reader(self.source, self.side, self._allowed(), self.fit)

    def _allowed(self) -> int:
        return min(int(self.max_damaged * len(self)), len(self) - 1)

    def _take(
        self, part: "tuple[np.ndarray, np.ndarray, dict[int, str]]"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        pixels, sizes, damaged = part
        self._record(damaged)
        return torch.from_numpy(pixels), torch.from_numpy(sizes)

    def _record(self, damaged: dict[int, str]) -> None:
        for i, reason in damaged.items():
            self.damaged.setdefault(i, reason)
        if len(self.damaged) > self._allowed():
            first = "; ".join(f"{row['path']}: {row['reason']}" for row in self.skipped[:3])
            raise TapetumError(
                f"at least {len(self.damaged):,} of {len(self):,} images of {self.source.name} cannot be "
                f"read, more than the share of {self.max_damaged:g} that is allowed ({first})."
            )

    def _stand_in(self, i: int) -> int:
        while i in self.damaged:
            i = (i + 1) % len(self)
        return i

    def _hold(self) -> None:
        """Decode everything with threads: Pillow lets others run while it works."""
        count = len(self)
        self.pixels = torch.empty((count, self.source.form.channels, self.side, self.side), dtype=torch.uint8)
        self.sizes = torch.zeros((count, 2))
        pixels, sizes = self.pixels.numpy(), self.sizes.numpy()

        def fill(part: range) -> tuple[int, dict[int, str]]:
            damaged = {}
            for i in part:
                try:
                    pixels[i], sizes[i] = squash(self.source, i, self.side, self.fit)
                except Damaged as error:
                    damaged[i] = str(error)
            return len(part), damaged

        pool = ThreadPoolExecutor(max(1, self.workers))
        try:
            with Progress(count, "reading images") as progress:
                parts = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
                for done, damaged in pool.map(fill, parts):
                    progress.advance(done)
                    self._record(damaged)
        finally:
            pool.shutdown(cancel_futures=True)
        for i in self.damaged:
            self.pixels[i], self.sizes[i] = self.pixels[self._stand_in(i)], self.sizes[self._stand_in(i)]


def squash(source: Source, i: int, side: int, fit: str = "crop") -> tuple[np.ndarray, tuple[int, int]]:
    """Image i as uint8 [C, side, side] and its true (height, width); raises Damaged.

    An image of just that size passes bit for bit. With fit "pad" black makes it a square first; with "squash"
    its size is said to be square, so that a crop of it is distorted as the whole is.
    """
    pixels, size = source.read_sized(i, at_least=side)  # [H, W, C]
    if fit == "squash":
        size = (side, side)
    elif fit == "pad" and size[0] != size[1]:
        height, width, channels = pixels.shape
        most = max(height, width)
        square = np.zeros((most, most, channels), dtype=np.uint8)
        top, left = (most - height) // 2, (most - width) // 2
        square[top : top + height, left : left + width] = pixels
        pixels, size = square, (max(size), max(size))
    if pixels.shape[:2] != (side, side):
        pixels = resized(pixels, side)
    return pixels.transpose(2, 0, 1), size


def resized(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 [H, W, C] -> [side, side, C], antialiased; channels that Pillow does not know go one by one."""
    if pixels.shape[2] not in (1, 3):
        return np.concatenate([resized(pixels[:, :, c : c + 1], side) for c in range(pixels.shape[2])], 2)
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image = image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(image).reshape(side, side, -1)


class _Reader:
    """reader[indices] -> a part of a batch; what a worker process holds."""

    def __init__(self, source: Source, side: int, allowed: int, fit: str):
        self.source, self.side, self.allowed, self.fit = source, side, allowed, fit

    def __getitem__(self, indices: Sequence[int]) -> _Part:
        pixels = np.zeros((len(indices), self.source.form.channels, self.side, self.side), dtype=np.uint8)
        sizes = np.zeros((len(indices), 2), dtype=np.float32)
        damaged: dict[int, str] = {}
        for row, i in enumerate(indices):
            while len(damaged) <= self.allowed:  # beyond, the canvas gives up
                try:
                    if i not in damaged:
                        pixels[row], sizes[row] = squash(self.source, i, self.side, self.fit)
                        break
                except Damaged as error:
                    damaged[i] = str(error)
                i = (i + 1) % len(self.source)
        return pixels, sizes, damaged  # as arrays they travel by pipe and need no shared memory


class _Batches:
    """The index tensors of the epoch under way; a sampler that can be refilled."""

    batches: Iterable[torch.Tensor] = ()

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self.batches)


def _unchanged(part: Any) -> Any:
    return part


def _begin(worker: int) -> None:
    """Workers live until training tells them to go, also when Ctrl-C or a scheduler signals all processes.

    They end with their parent even if it was killed: torch's own would wait for ever to hand over a batch.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
