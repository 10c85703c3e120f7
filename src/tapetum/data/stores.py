"""Where images lie: one small class per kind of place, each giving an image's bytes or pixels by its key."""

import bz2
import hashlib
import os
import struct
import threading
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.data.decode import Damaged, decode_sized, header_size
from tapetum.data.form import RGB, Form

MAX_BYTES = 2**30  # no single image file in an archive is longer


class Store:
    """Base: `content(key)` gives an encoded image; `stamp(key)` changes whenever that content may have.

    A store pickles, and opens files anew in every process that reads. `channels` is how many its images have
    where they are no photographs.
    """

    channels: int | None = None

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


class Files(Store):
    """Files below a folder; a key is a path relative to it."""

    def __init__(self, root: Path):
        self.root = str(root.absolute())

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def content(self, key: str) -> bytes:
        try:
            return Path(self._path(key)).read_bytes()
        except OSError as error:
            raise Damaged((error.strerror or str(error)).lower()) from error

    def stamp(self, key: str) -> str | None:
        return file_stamp(self._path(key))

    def size(self, key: str) -> tuple[int, int]:
        return header_size(self._path(key))


def file_stamp(path: str) -> str | None:
    """Path, length and time of change of a file."""
    try:
        found = os.stat(path)  # noqa: PTH116 (a Path costs more than the call, and there are a million)
    except OSError:
        return None
    return f"{path}|{found.st_size}|{found.st_mtime_ns}"


class Pread:
    """Reads parts of a file at offsets, from any number of threads and processes at once."""

    def __init__(self, path: str):
        self.path = path
        self._lock = threading.Lock()
        self._handle: int | None = None

    def __getstate__(self) -> str:
        return self.path

    def __setstate__(self, path: str) -> None:
        self.__init__(path)  # type: ignore[misc]

    def __call__(self, offset: int, length: int) -> bytes:
        if length > MAX_BYTES:
            raise Damaged(f"longer than {MAX_BYTES:,} bytes")
        try:
            if self._handle is None:
                with self._lock:
                    if self._handle is None:
                        self._handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            if hasattr(os, "pread"):  # moves no shared position, so it also works after a fork
                content = os.pread(self._handle, length, offset)
            else:
                with self._lock:
                    os.lseek(self._handle, offset, os.SEEK_SET)
                    content = os.read(self._handle, length)
        except (OSError, OverflowError) as error:
            raise Damaged(f"its archive cannot be read ({error})") from error
        if len(content) < length:
            raise Damaged("cut off: its archive ends before it")
        return content

    def __del__(self) -> None:
        if self._handle is not None:
            os.close(self._handle)


class Tar(Store):
    """Members of tar files; a key is (number of the file, offset, length)."""

    def __init__(self, paths: list[Path]):
        self.paths = [str(path.absolute()) for path in paths]
        self.parts = [Pread(path) for path in self.paths]

    def content(self, key: tuple[int, int, int]) -> bytes:
        number, offset, length = key
        return self.parts[number](offset, length)

    def stamp(self, key: tuple[int, int, int]) -> str | None:
        stamp = file_stamp(self.paths[key[0]])
        return stamp and f"{stamp}|{key[1]}|{key[2]}"


class Zip(Store):
    """Members of a zip file; a key is (header offset, packed length, length, packing, checksum)."""

    METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)

    def __init__(self, path: Path):
        self.path = str(path.absolute())
        self.part = Pread(self.path)

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
