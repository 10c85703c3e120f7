"""Where images lie: one small class per kind of place, each giving an image's bytes or pixels by its key."""

import bz2
import contextlib
import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.data.blocks import HELD, Blocks
from tapetum.data.decode import Damaged, decode_sized, header_size
from tapetum.data.far import Far
from tapetum.data.form import MAX_BYTES, RGB, Form
from tapetum.data.pread import Pread, allow_open

_RUN = 2**23  # bytes of a tar that are read at one go
_LANES = 64  # such runs that an epoch goes through side by side


@dataclass(frozen=True)
class Layout:
    """How images lie where reading in any order is slow; see `order`.

    run: [N] int64, numbers the run of images that each lies in; runs are read as a whole.
    lanes: how many runs an epoch goes through side by side.
    """

    run: np.ndarray
    lanes: int

    @classmethod
    def of(cls, names: list[int], lanes: int) -> "Layout":
        """From any number that names the run of each image; runs are numbered in the order of these."""
        return cls(np.unique(names, return_inverse=True)[1].astype(np.int64), lanes)


class Store:
    """Base: `content(key)` gives an encoded image; `stamp(key)` changes whenever that content may have.

    A store pickles, and opens files anew in every process that reads.

    channels  how many its images have, where they are no photographs
    levels    those that its images were made with, where that is done already
    side      no image has a longer shorter side, where that is known of all
    squares   `read` with at_least gives squares, whatever the true proportions
    encoded   content is an image file
    near      a stamp costs next to nothing
    """

    channels: int | None = None
    levels: tuple[float, float] | None = None
    side: int | None = None
    squares = False
    encoded = True
    near = False

    def content(self, key: Any) -> bytes:
        """The bytes of one image; raises Damaged."""
        raise NotImplementedError

    def stamp(self, key: Any) -> str | None:
        """What a cached digest of the content hangs on, or None where nothing says that it is unchanged."""
        return None

    def read(
        self, key: Any, max_pixels: int, at_least: int = 0, form: Form = RGB
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Pixels uint8 [H, W, C] and the true size; see `decode_sized`."""
        return decode_sized(self.content(key), max_pixels, at_least, form)

    def size(self, key: Any) -> tuple[int, int]:
        """(height, width), as cheaply as can be; raises Damaged."""
        return header_size(self.content(key))

    def digest(self, key: Any) -> bytes:
        """16 bytes that name the content."""
        return hashlib.blake2b(self.content(key), digest_size=16).digest()

    def layout(self, keys: Sequence[Any]) -> Layout | None:
        """How the images of these keys lie; None where they can be read in any order."""
        return None

    def expect(self, key: Any) -> None:
        """Called before an epoch reads an image, so that what lies around it can be read at one go."""


class Files(Store):
    """Files below a folder; a key is a path relative to it."""

    near = True

    def __init__(self, root: Path):
        self.root = str(root.absolute())

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def content(self, key: str) -> bytes:
        try:
            return regular(self._path(key))
        except OSError as error:
            raise Damaged((error.strerror or str(error)).lower()) from error

    def stamp(self, key: str) -> str | None:
        return file_stamp(self._path(key))

    def size(self, key: str) -> tuple[int, int]:
        return header_size(self._path(key))


def regular(path: str) -> bytes:
    """The bytes of a file; raises OSError, and Damaged for one that is too long or has no end (a device)."""
    with open(path, "rb") as file:  # noqa: PTH123 (a Path costs more)
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            raise Damaged(f"no file of at most {MAX_BYTES:,} bytes")
        return file.read()


class FarFiles(Store):
    """Files below a distant folder; a key is (path relative to it, length, stamp), as they were listed."""

    _HEAD = 2**16  # bytes in which nearly every image has said its size

    def __init__(self, root: Far):
        self.root = root

    def content(self, key: tuple[str, int, str]) -> bytes:
        name, length, _ = key
        if length > MAX_BYTES:
            raise Damaged(f"no file of at most {MAX_BYTES:,} bytes")
        return HELD.take(self.root / name, 0, length)

    def stamp(self, key: tuple[str, int, str]) -> str | None:
        return key[2] or None

    def size(self, key: tuple[str, int, str]) -> tuple[int, int]:
        name, length, _ = key
        if length > self._HEAD:
            with contextlib.suppress(Damaged):
                return header_size((self.root / name).read(0, self._HEAD))
        return header_size(self.content(key))

    def expect(self, key: tuple[str, int, str]) -> None:
        HELD.expect(self.root / key[0], 0, key[1])


def part_of(path: Path | Far) -> "Pread | Blocks":
    """What reads parts of a file, near or far."""
    return Blocks(path) if isinstance(path, Far) else Pread(str(path.absolute()))


def file_stamp(path: str | Path | Far) -> str | None:
    """Path, length and time of change of a file."""
    if isinstance(path, Far):
        return path.stamp()
    try:
        found = os.stat(path)  # noqa: PTH116 (a Path costs more than the call, and there are a million)
    except OSError:
        return None
    return f"{path}|{found.st_size}|{found.st_mtime_ns}"


class Tar(Store):
    """Members of tar files; a key is (number of the file, offset, length)."""

    def __init__(self, paths: Sequence[Path | Far]):
        self.paths = [path if isinstance(path, Far) else str(path.absolute()) for path in paths]
        self.parts = [part_of(path) for path in paths]
        self.near = not any(isinstance(path, Far) for path in paths)
        self._expected: set[tuple[int, int]] = set()  # runs that the system was asked to read
        allow_open(len(paths))

    def content(self, key: tuple[int, int, int]) -> bytes:
        number, offset, length = key
        return self.parts[number](offset, length)

    def expect(self, key: tuple[int, int, int]) -> None:
        run = key[0], key[1] // _RUN
        if run not in self._expected:
            if len(self._expected) >= 2 * _LANES:
                self._expected.clear()
            self._expected.add(run)
            self.parts[run[0]].expect(run[1] * _RUN, _RUN)

    def layout(self, keys: Sequence[tuple[int, int, int]]) -> Layout:
        return Layout.of([(number << 40) + offset // _RUN for number, offset, _ in keys], _LANES)

    def stamp(self, key: tuple[int, int, int]) -> str | None:
        stamp = file_stamp(self.paths[key[0]])
        return stamp and f"{stamp}|{key[1]}|{key[2]}"


class Zip(Store):
    """Members of a zip file; a key is (header offset, packed length, length, packing, checksum)."""

    METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)

    def __init__(self, path: Path | Far):
        self.path = path if isinstance(path, Far) else str(path.absolute())
        self.part = part_of(path)
        self.near = not isinstance(path, Far)

    def content(self, key: tuple[int, int, int, int, int]) -> bytes:
        offset, packed, length, method, checksum = key
        header = self.part(offset, 30)
        if header[:4] != b"PK\x03\x04":
            raise Damaged("its place in the archive is damaged")
        name, extra = struct.unpack("<HH", header[26:30])
        content = self.part(offset + 30 + name + extra, packed)
        try:
            if method == zipfile.ZIP_DEFLATED:  # never unpack more than the directory promised
                content = zlib.decompressobj(-15).decompress(content, min(length, MAX_BYTES) + 1)
            elif method == zipfile.ZIP_BZIP2:
                content = bz2.BZ2Decompressor().decompress(content, min(length, MAX_BYTES) + 1)
        except (zlib.error, OSError, EOFError) as error:
            raise Damaged("its packing in the archive is damaged") from error
        if len(content) != length or zlib.crc32(content) != checksum:
            raise Damaged("damaged in the archive (checksum)")
        return content

    def stamp(self, key: tuple[int, int, int, int, int]) -> str | None:
        stamp = file_stamp(self.path)
        return stamp and f"{stamp}|{key[0]}|{key[4]}"

    def expect(self, key: tuple[int, int, int, int, int]) -> None:
        if isinstance(self.path, Far):
            self.part.expect(key[0], 30 + key[1])

    def layout(self, keys: Sequence[tuple[int, int, int, int, int]]) -> Layout | None:
        if not isinstance(self.path, Far):
            return None
        return Layout.of([key[0] // _RUN for key in keys], _LANES)
