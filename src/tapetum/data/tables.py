"""Opens Parquet and Arrow files of strangers, which take no more memory than their length can mean."""

import importlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tapetum.base.errors import TapetumError
from tapetum.data.far import Far

_TIGHT = 2**26, 200  # contents of more bytes than this are at most so many times as long as their file
_BATCH, _DICTIONARY = 3, 2  # kinds of messages of Arrow's that have buffers


def pyarrow(module: str) -> Any:
    """pyarrow.MODULE, or a sentence saying how to get it."""
    try:
        return importlib.import_module(f"pyarrow.{module}")
    except ImportError:
        raise TapetumError("Parquet and Arrow files need pyarrow: pip install 'tapetum[data]'.") from None


def check_count(rows: int, path: Path | Far) -> None:
    """Each row has a path or an image of its own, so a file of more rows than bytes is no table of images."""
    if rows > (length := path.stat().st_size):
        raise TapetumError(f"{path} says that it has {rows:,} rows, in {length:,} bytes.")


def room(path: Path | Far) -> int:
    """How many bytes the contents of a file may have."""
    return max(_TIGHT[0], _TIGHT[1] * path.stat().st_size)


def check_length(lengths: Iterable[int], path: Path | Far) -> None:
    """Raise TapetumError for contents of these lengths that are packed more tightly than any images are."""
    left = room(path)
    for length in lengths:
        left -= length
        if left < 0:
            raise TapetumError(f"the rows of {path} are over {_TIGHT[1]} times as long as they are packed.")


# ---- Parquet ----


def parquet_file(path: Path | Far) -> Any:
    """A Parquet file, opened; raises TapetumError where its contents are too long for it."""
    opened = path.open("rb") if isinstance(path, Far) else path
    found = pyarrow("parquet").ParquetFile(opened, pre_buffer=isinstance(path, Far))
    check_length((row.total_byte_size for row in _groups(found, range(found.num_row_groups))), path)
    return found


def _groups(opened: Any, numbers: Sequence[int]) -> Iterator[Any]:
    return (opened.metadata.row_group(i) for i in numbers)


def rows_of(
    opened: Any, path: Path | Far, names: Sequence[str] | None = None, groups: Sequence[int] | None = None
) -> Any:
    """Columns of a Parquet file as a table, of some of its groups of rows.

    Few rows are unpacked at a time and counted, for many may share one value that the file holds once. Raises
    TapetumError where they are too long.
    """
    numbers = range(opened.num_row_groups) if groups is None else groups
    parts = list(_groups(opened, numbers))
    longest, count = max((part.total_byte_size for part in parts), default=0), sum(p.num_rows for p in parts)
    many = max(1, min(count, room(path) // max(1, longest)))  # no value is longer than its group
    found: list[Any] = []

    def lengths() -> Iterator[int]:
        for batch in opened.iter_batches(many, list(numbers), names):
            found.append(batch)
            yield batch.nbytes

    check_length(lengths(), path)
    return pyarrow("lib").Table.from_batches(found) if found else opened.read_row_groups([], names)


def as_python(values: Any, path: Path | Far) -> list[Any]:
    """A column as Python has it; few rows at a time, since many may share one value. Raises TapetumError."""
    many = max(1, room(path) // max(1, values.nbytes))
    found: list[Any] = []

    def lengths() -> Iterator[int]:
        for at in range(0, len(values), many):
            part = values[at : at + many].to_pylist()
            found.extend(part)
            yield sum(len(str(value)) for value in part)

    check_length(lengths(), path)
    return found


def text_column(values: Iterable[str | None]) -> Any:
    """Texts as a column; half characters, which names that are no UTF-8 have, are spelt out."""
    return pyarrow("lib").array([value and spelt(value) for value in values], pyarrow("lib").string())


def spelt(text: str) -> str:
    """As UTF-8 can hold it."""
    return text.encode(errors="backslashreplace").decode()


# ---- Arrow ----


def read_arrow(path: str | Path) -> Any:
    """A mapped Arrow file (stream or file form) as a table. Raises TapetumError where what is packed in it is
    too long."""
    ipc, place = pyarrow("ipc"), Path(path)
    mapped = pyarrow("lib").memory_map(str(path))
    content = memoryview(mapped.read_buffer())
    mapped.seek(0)
    whole = bytes(content[:6]) == b"ARROW1"  # the file form
    check_length(_unpacked(content, _from_foot(content) if whole else _in_turn(content)), place)
    table = (ipc.open_file if whole else ipc.open_stream)(mapped).read_all()
    table.validate(full=True)  # offsets that point astray would end the process
    return table


def _unpacked(content: memoryview, messages: Iterable[tuple[int, int]]) -> Iterator[int]:
    """The lengths of the packed buffers of messages (begin, begin of body); each begins with its own."""
    seen = 0
    for at, body in messages:
        message = _Record.first(content, at)
        if (kind := message.number(1, "<B")) not in (_BATCH, _DICTIONARY):
            continue
        batch = message.record(2)
        batch = batch.record(1) if kind == _DICTIONARY and batch else batch
        old = message.number(0, "<h") == 3 and message.at(4)  # Arrow 0.17 said it among the notes
        if batch is None or not (batch.at(3) or old):  # not packed: its buffers are mapped
            continue
        for place in batch.items(2, 16):
            if (seen := seen + 1) > len(content):
                raise ValueError("its buffers are listed again and again")
            offset, length = struct.unpack_from("<qq", content, place)
            if length >= 8:
                yield max(0, struct.unpack_from("<q", content, body + offset)[0])


def _in_turn(content: memoryview) -> Iterator[tuple[int, int]]:
    """The messages of a stream."""
    at = 0
    while at + 4 <= len(content):
        begin, size = _begin(content, at)
        if size <= 0:
            return
        yield begin, begin + size
        length = _Record.first(content, begin).number(3, "<q")
        if length < 0:
            raise ValueError("a message of it has no length")
        at = begin + size + length


def _from_foot(content: memoryview) -> Iterator[tuple[int, int]]:
    """The messages that the end of a file names."""
    (length,) = struct.unpack_from("<i", content, len(content) - 10)
    foot = _Record.first(content, len(content) - 10 - length)
    for field in (2, 3):  # dictionaries, and batches of rows
        for place in foot.items(field, 24):
            at, size = struct.unpack_from("<qi", content, place)
            yield _begin(content, at)[0], at + size


def _begin(content: memoryview, at: int) -> tuple[int, int]:
    """Where what describes a message begins, and its length."""
    mark, size = struct.unpack_from("<Ii", content, at) if at + 8 <= len(content) else (0, 0)
    return (at + 8, size) if mark == 0xFFFFFFFF else (at + 4, struct.unpack_from("<i", content, at)[0])


class _Record:
    """A table of flatbuffers, in which Arrow describes its messages: fields by number, any of them absent."""

    def __init__(self, content: memoryview, place: int):
        self.content, self.place = content, place
        self.fields = place - struct.unpack_from("<i", content, place)[0]
        self.size = struct.unpack_from("<H", content, self.fields)[0]

    @classmethod
    def first(cls, content: memoryview, at: int) -> "_Record":
        return cls(content, at + struct.unpack_from("<I", content, at)[0])

    def at(self, field: int) -> int:
        """Where a field stands; 0 where it is absent."""
        if 4 + 2 * field + 2 > self.size:
            return 0
        offset = struct.unpack_from("<H", self.content, self.fields + 4 + 2 * field)[0]
        return self.place + offset if offset else 0

    def number(self, field: int, form: str) -> int:
        return struct.unpack_from(form, self.content, at)[0] if (at := self.at(field)) else 0

    def _led(self, field: int) -> int:
        return at + struct.unpack_from("<I", self.content, at)[0] if (at := self.at(field)) else 0

    def record(self, field: int) -> "_Record | None":
        return _Record(self.content, at) if (at := self._led(field)) else None

    def items(self, field: int, width: int) -> range:
        """Where the items of a list stand."""
        at = self._led(field)
        count = struct.unpack_from("<I", self.content, at)[0] if at else 0
        return range(at + 4, at + 4 + width * count, width)
