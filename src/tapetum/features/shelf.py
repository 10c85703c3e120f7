"""One kind of features on the disk: segments, added whole and never changed, of rows keyed by content."""

import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.base.console import say, size
from tapetum.base.errors import TapetumError
from tapetum.base.files import lock, read_json, replacing, write_json

KEY = 16  # bytes that name an image's content
_STALE = 3600  # seconds after which what a killed process left is removed


class Shelf:
    """A folder with `about.json` and segments: NAME.npy, rows [n, *shape], and NAME.keys, their n keys.

    The keys are written last, so a segment without them is none. Processes that fill a shelf at once disturb
    each other in nothing: at worst a row is there twice.
    """

    def __init__(self, folder: Path, about: dict[str, Any]):
        self.folder, self.about = folder, about

    def read(self) -> tuple[list[np.ndarray], dict[bytes, tuple[int, int]]]:
        """The segments, mapped, and for each key (segment, row); what is damaged is as if not there."""
        segments: list[np.ndarray] = []
        where: dict[bytes, tuple[int, int]] = {}
        for file in sorted(self.folder.glob("*.keys")):
            try:
                keys = file.read_bytes()
                rows = np.load(file.with_suffix(".npy"), mmap_mode="r")
            except Exception:  # whatever damaged bytes make a parser raise
                continue
            if not isinstance(rows, np.ndarray) or not rows.ndim or len(keys) != KEY * len(rows):
                continue
            if segments and rows.shape[1:] != segments[0].shape[1:]:
                continue
            for row in range(len(rows)):
                where.setdefault(keys[KEY * row : KEY * (row + 1)], (len(segments), row))
            segments.append(rows)
        if segments:
            with contextlib.suppress(OSError):  # of another user, perhaps
                os.utime(self.folder)  # used last: now
        return segments, where

    def add(self, keys: Sequence[bytes], rows: np.ndarray) -> None:
        """Write one segment; raises TapetumError on a full disk, leaving nothing."""
        if not (self.folder / "about.json").exists():
            write_json(self.folder / "about.json", self.about)
        file = self.folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.npy"  # plain writes: a full disk
        with replacing(file) as temporary, temporary.open("wb") as out:  # under a map kills the process
            np.save(out, rows, allow_pickle=False)
        try:
            with replacing(file.with_suffix(".keys")) as temporary:
                temporary.write_bytes(b"".join(keys))
        except TapetumError:
            file.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def filling(self) -> Iterator[None]:
        """One process after the other, where the file system has locks; and what killed ones left goes."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = (self.folder / "lock").open("a")
        except OSError as error:
            raise TapetumError(f"cannot write {self.folder}: {error.strerror or error}.") from error
        with handle:
            if not lock(handle, wait=False):
                say("another process computes the same features; waiting for it")
                lock(handle)
            self._sweep()
            yield

    def _sweep(self) -> None:
        for file in self.folder.iterdir():
            orphan = file.suffix == ".npy" and not file.with_suffix(".keys").exists()
            with contextlib.suppress(OSError):
                if (orphan or file.suffix == ".part") and time.time() - file.stat().st_mtime > _STALE:
                    file.unlink()


def gather(
    segments: list[np.ndarray], places: np.ndarray, missing: Any, folder: Path, most: float
) -> np.ndarray:
    """Rows [N, ...] at `places` [N, 2] (segment, row; -1 = `missing`), mapped where they lie in one piece.

    What takes more than `most` bytes is put into a file below `folder`.
    """
    first = segments[0]
    if len(segments) == 1 and len(places) == len(first) and (places[:, 1] == np.arange(len(first))).all():
        return first
    shape = (len(places), *first.shape[1:])
    need = int(np.prod(shape)) * first.itemsize
    out = np.empty(shape, dtype=first.dtype) if need <= most else _mapped(folder, shape, first.dtype, need)
    out[places[:, 0] < 0] = missing
    for number, segment in enumerate(segments):
        rows = np.flatnonzero(places[:, 0] == number)
        out[rows] = segment[places[rows, 1]]
    return out


def _mapped(folder: Path, shape: tuple[int, ...], dtype: np.dtype, need: int) -> np.ndarray:
    """Room in a file that has no name and goes with the array."""
    try:
        with tempfile.TemporaryFile(dir=folder) as handle:
            os.posix_fallocate(handle.fileno(), 0, need)  # or a full disk would kill the process later
            return np.memmap(handle, dtype=dtype, mode="r+", shape=shape)  # type: ignore[call-overload]
    except OSError as error:
        raise TapetumError(f"there is no room for {size(need)} in {folder}: {error.strerror}.") from error


def facts(folder: Path) -> dict[str, Any] | None:
    """What a shelf says of itself, or None where it is none."""
    try:
        found = read_json(folder / "about.json")
    except TapetumError:
        return None
    return found if isinstance(found, dict) else None
