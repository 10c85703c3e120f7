"""Reads a packed store: all images of a source in one file, mapped, with a checksum for every record.

A page of header, the records one after the other, a table with one row for each, and an index in JSON. The
header holds the digests of itself, the table and the index, so that no byte of the file can change unseen.
"""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.base.errors import TapetumError
from tapetum.data.decode import Damaged, decode, one_line
from tapetum.data.form import RGB, Form
from tapetum.data.resize import resized
from tapetum.data.source import Source
from tapetum.data.stores import Store

VERSION = 1
HEADER = 4096  # bytes, so that the first record begins on a page
_FACTS = struct.Struct(
    "<8sIxxxxQQQ16s16s"
)  # magic, version, images, where table and index begin, and their digests
_MAGIC = b"TAPETUM\n"
ROW = np.dtype(
    [("offset", "<u8"), ("length", "<u8"), ("height", "<u4"), ("width", "<u4"), ("digest", "u1", 16)]
)  # length 0: an image that could not be read; height and width are those of the original
_MENDING = "pack the images again, or fetch the file again"


def digest(content: Any) -> bytes:
    """The checksum of a record, table or index: 16 bytes."""
    return hashlib.blake2b(content, digest_size=16).digest()


def header(images: int, index_at: int, table: bytes, index: bytes) -> bytes:
    """The first page of a pack whose table ends where its index begins."""
    facts = _FACTS.pack(
        _MAGIC, VERSION, images, index_at - len(table), index_at, digest(table), digest(index)
    )
    page = facts.ljust(HEADER - 16, b"\0")
    return page + digest(page)


class Pack(Store):
    """The records of a pack; a key is a record's number. Each is held against its checksum when it is first
    read; one that differs raises TapetumError, for then nothing that lies beside it is to be trusted."""

    side: int

    def __init__(self, path: Path):
        self.path = str(path.absolute())
        self.table, self.index = _read(path)
        self.side, self.raw = self.index["side"], self.index["format"] == "raw"
        self.squares, self.encoded = self.raw, not self.raw
        self.form = Form(self.index["channels"], self.index["levels"] and tuple(self.index["levels"]))
        self.levels = self.form.levels
        self.channels = None if self.form.channels == 3 else self.form.channels
        whole = np.memmap(path, mode="r")  # a pack is replaced by rename, never cut
        self._map = whole.view(np.ndarray)  # which is sliced in a fraction of a map's time
        self._trusted = bytearray(len(self.table))

    def __getstate__(self) -> str:
        return self.path

    def __setstate__(self, path: str) -> None:
        self.__init__(Path(path))  # type: ignore[misc]

    def _row(self, key: int) -> Any:
        """A row of the table; raises Damaged for an image that could not be read when it was packed."""
        row = self.table[key]
        if not row["length"]:
            raise Damaged(self.index["damaged"][str(key)])
        return row

    def _record(self, key: int) -> np.ndarray:
        """The bytes [n] of a record."""
        row = self._row(key)
        record = self._map[int(row["offset"]) : int(row["offset"] + row["length"])]
        if not self._trusted[key]:
            if digest(record) != row["digest"].tobytes():
                raise TapetumError(
                    f"record {key} ({self.index['paths'][key]}) of {self.path} is not what was "
                    f"written, as its checksum says; {_MENDING}."
                )
            self._trusted[key] = 1
        return record

    def content(self, key: int) -> bytes:
        return self._record(key).tobytes()

    def read(
        self, key: int, max_pixels: int, at_least: int = 0, form: Form = RGB
    ) -> tuple[np.ndarray, tuple[int, int]]:
        if form.levels not in (None, self.levels):
            raise TapetumError(
                f"{self.path} holds 8 bits made with levels {self.levels or 'as they come'}, not "
                f"{form.levels}; pack the images again with those."
            )
        record, (height, width) = self._record(key), self.size(key)
        if height * width > max_pixels:
            raise Damaged(f"{width} x {height} is over the limit of {max_pixels:,} pixels")
        if not self.raw:
            return decode(record.tobytes(), max_pixels, at_least, form), (height, width)
        pixels = record.reshape(self.form.channels, self.side, self.side).transpose(1, 2, 0)
        if form.channels != self.form.channels:
            pixels = form.of_array(pixels)
        if not at_least:
            pixels = resized(pixels, proportions(height, width, self.side)).copy()  # not the map itself
        return pixels, (height, width)

    def size(self, key: int) -> tuple[int, int]:
        row = self._row(key)
        return int(row["height"]), int(row["width"])

    def digest(self, key: int) -> bytes:
        """From the table, which is known to be whole; the record's bytes are not read for it."""
        height, width = self.size(key)
        what = f"{self.index['format']} {self.form} {self.side} {height} {width} ".encode()
        return digest(what + self.table[key]["digest"].tobytes())


def proportions(height: int, width: int, side: int) -> tuple[int, int]:
    """The size of an image whose shorter side is no longer than `side`."""
    share = min(1.0, side / min(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def _read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The table [N] and the index of a pack, both whole and sound; raises TapetumError."""
    try:
        with path.open("rb") as file:
            page = file.read(HEADER)
            length = file.seek(0, 2)
            if not page.startswith(_MAGIC):
                raise TapetumError(f"{path} is not a pack of tapetum's, or its beginning is damaged.")
            if len(page) < HEADER or digest(page[:-16]) != page[-16:]:
                raise TapetumError(f"the header of {path} is damaged, as its checksum says; {_MENDING}.")
            _, version, images, table_at, index_at, table_digest, index_digest = _FACTS.unpack_from(page)
            if version > VERSION:
                raise TapetumError(
                    f"{path} was packed by a newer tapetum (form {version}; this one reads {VERSION}); "
                    "update it."
                )
            if not HEADER <= table_at <= index_at <= length or index_at - table_at != images * ROW.itemsize:
                raise TapetumError(f"{path} is cut off: it has {length:,} bytes; {_MENDING}.")
            file.seek(table_at)
            table, index = file.read(index_at - table_at), file.read()
    except OSError as error:
        raise TapetumError(f"{path} cannot be read: {error.strerror or error}.") from error
    for what, content, stored in (("table", table, table_digest), ("index", index, index_digest)):
        if digest(content) != stored:
            raise TapetumError(
                f"the {what} of {path} is damaged or cut off, as its checksum says; {_MENDING}."
            )
    rows = np.frombuffer(table, ROW)
    try:
        found = json.loads(index)
        _check(found, rows, table_at)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, TapetumError) as error:
        raise TapetumError(f"the index of {path} does not describe a pack ({one_line(error)}).") from error
    return rows, found


def _check(index: dict[str, Any], rows: np.ndarray, end: int) -> None:
    """Raise ValueError and the like for an index that fits neither its table nor itself: whole is not yet
    harmless."""
    n, side, classes = len(rows), index["side"], index["classes"]
    form = Form(index["channels"], index["levels"] and tuple(index["levels"]))
    labels, splits, texts = index["labels"], index["split_of"], index["texts"]
    empty = rows["length"] == 0
    known = {str(i): isinstance(index["damaged"].get(str(i)), str) for i in np.flatnonzero(empty).tolist()}
    skipped = [(row["path"], row["reason"]) for row in index["skipped"]]
    sound = {
        "format": index["format"] in ("raw", "jpeg"),
        "side": type(side) is int and side > 0,
        "channels": type(form.channels) is int and form.channels < 2**16,
        "levels": form.levels is None
        or (len(form.levels) == 2 and all(type(v) in (int, float) and abs(v) < 1e300 for v in form.levels)),
        "name": isinstance(index["name"], str) and isinstance(index["label_origin"], str),
        "paths": _texts(index["paths"], n),
        "classes": classes is None or _texts(classes, len(classes)),
        "labels": labels is None
        or (
            classes is not None
            and len(labels) == n
            and all(type(v) is int and -1 <= v < len(classes) for v in labels)
        ),
        "split_of": splits is None or _texts(splits, n),
        "texts": texts is None or _texts(texts, n),
        "columns": all(_texts(values, n) for values in index.get("columns", {}).values()),
        "notes": _texts(index["notes"], len(index["notes"])),
        "skipped": _texts([text for row in skipped for text in row], 2 * len(skipped)),
        "damaged": all(known.values()) and len(index["damaged"]) == len(known),
        "offsets": bool(((rows["offset"] >= HEADER) & (rows["offset"] <= end)).all()),
        "lengths": bool((rows["length"] <= end - rows["offset"]).all()),
        "sizes": bool(((rows["height"] > 0) & (rows["width"] > 0) | empty).all()),
    }
    if index["format"] == "raw":
        sound["squares"] = bool((empty | (rows["length"] == form.channels * side * side)).all())
    if wrong := [name for name, fine in sound.items() if not fine]:
        raise ValueError(f"its {wrong[0]}")


def _texts(values: Any, n: int) -> bool:
    return isinstance(values, list) and len(values) == n and all(isinstance(v, str) for v in values)


def open_pack(path: Path) -> Source:
    """The source that was packed, as it was, from its pack."""
    store = Pack(path)
    index = store.index
    source = Source(index["name"], store, range(len(store.table)), index["paths"])
    if index["labels"] is not None:
        source.labels = np.array(index["labels"], dtype=np.int64)
    source.classes, source.label_origin = index["classes"], index["label_origin"]
    source.split_of, source.texts, source.skipped = index["split_of"], index["texts"], index["skipped"]
    source.columns = index.get("columns", {})  # which older packs lack
    what = "decoded squares" if store.raw else "JPEG"
    source.notes = [*index["notes"], f"packed as {what} of {store.side} pixels"]
    return source
