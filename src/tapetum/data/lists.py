"""Lists of images: CSV, TSV, JSON lines and Parquet tables with a column of paths."""

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tapetum.base.addresses import is_address
from tapetum.base.errors import TapetumError
from tapetum.base.files import parsed
from tapetum.data import far_lists
from tapetum.data.decode import is_image, one_line
from tapetum.data.far import Far
from tapetum.data.listing import hidden
from tapetum.data.place import here
from tapetum.data.source import Source
from tapetum.data.stores import Files, Store
from tapetum.data.structure import split_name
from tapetum.data.tables import as_python, check_count, parquet_file, rows_of

PATH = (
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
    "img_path",
    "image_file",
    "relative_path",
)
LABEL = ("label", "labels", "class", "class_name", "target", "category", "y")
SPLIT = ("split", "set", "subset", "partition")
TEXT = ("text", "caption")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

Table = dict[str, list[Any]]


def read_table(path: Path | Far) -> Table:
    """A table as {column: values}; raises TapetumError where it cannot be read."""
    path = here(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return _read_parquet(path)
        if suffix in (".jsonl", ".ndjson"):
            return _read_json_lines(path)
        if suffix in (".csv", ".tsv"):
            return _read_csv(path, "\t" if suffix == ".tsv" else None)
    except FileNotFoundError:
        raise TapetumError(f"there is no file {path}.") from None
    except TapetumError:
        raise
    except Exception as error:  # whatever the bytes of a stranger make a parser raise
        raise TapetumError(f"{path} cannot be read as a table: {one_line(error)}.") from error
    raise TapetumError(f"{path} is not a table that can be read; allowed: {', '.join(SUFFIXES)}.")


def _read_parquet(path: Path | Far) -> Table:
    with parquet_file(path) as opened:
        check_count(opened.metadata.num_rows, path)
        table = rows_of(opened, path)
        return {name: as_python(part, path) for name, part in zip(table.column_names, table.columns)}


def _read_csv(path: Path | Far, delimiter: str | None) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as handle:
        first = handle.readline()
        handle.seek(0)
        if not delimiter:
            delimiter = max(",;\t", key=first.count)
        rows = list(csv.reader(handle, delimiter=delimiter))
    if not rows:
        raise TapetumError(f"{path} is empty.")
    names = [name.strip() for name in rows[0]]
    body = [row for row in rows[1:] if row]
    return {name: [row[i].strip() if i < len(row) else "" for row in body] for i, name in enumerate(names)}


def _read_json_lines(path: Path | Far) -> Table:
    rows = [parsed(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise TapetumError(f"{path} must hold one JSON object a line.")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def column(table: Table, names: Sequence[str]) -> str | None:
    """The table's column that is called by one of `names`, the earlier the better; case does not matter."""
    by_name = {name.lower(): name for name in reversed(table)}
    return next((by_name[name] for name in names if name in by_name), None)


def path_column(table: Table, path: Path | Far) -> str:
    """The column of paths, or a sentence naming the columns there are."""
    if name := column(table, PATH):
        return name
    there = ", ".join(repr(name) for name in list(table)[:12]) or "none"
    raise TapetumError(
        f"{path.name} has no column of image paths (its first line must name one, such as 'path' or 'file'); "
        f"its columns: {there}."
    )


def cells(values: Sequence[Any]) -> list[str]:
    """Cells as text: empty for missing ones, '3' for 3.0 where all are whole numbers."""
    numbers = [v for v in values if isinstance(v, float) and not math.isnan(v)]
    whole = bool(numbers) and all(v.is_integer() for v in numbers)

    def text(value: Any) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        return str(int(value)) if whole and isinstance(value, float) else str(value).strip()

    return [text(value) for value in values]


def open_list(path: Path | Far, table: Table | None = None) -> Source:
    """The images that a table names; relative paths start at the table's folder."""
    table = table if table is not None else read_table(path)
    written = cells(table[path_column(table, path)])
    if isinstance(path, Far) or any(map(is_address, written)):
        return _listed(path, table, written, *far_lists.images(path, written))
    folder = path.parent.absolute()
    places = [
        os.path.normpath(folder / name.replace("\\", "/")) for name in written
    ]  # ".." and links stay legal
    root = folder
    if outside := [place for place in places if not place.startswith(f"{folder}/")]:
        root = Path(os.path.commonpath([str(folder), *outside]))
    kept: dict[str, int] = {}
    skipped = []
    for row, (name, place) in enumerate(zip(written, places)):
        relative = os.path.relpath(place, root).replace(os.sep, "/")
        if reason := "listed without a path" if not name else _problem(place, relative, kept):
            skipped.append({"path": relative, "reason": reason})
        else:
            kept[relative] = row
    return _listed(path, table, written, Files(root), list(kept), kept, skipped)


def _listed(
    path: Path | Far,
    table: Table,
    written: list[str],
    store: Store,
    keys: list[Any],
    kept: dict[str, int],
    skipped: list[dict[str, str]],
) -> Source:
    """The source of the rows `kept`, with what the table says of them."""
    if not kept:
        raise TapetumError(_nothing(path, written, skipped))
    rows = list(kept.values())
    source = Source(path.name, store, keys, list(kept))
    source.skipped = skipped
    others = [name for name in table if name != path_column(table, path)]
    source.columns = {name: [values[i] for i in rows] for name in others for values in [cells(table[name])]}
    if text := column(table, TEXT):
        texts = cells(table[text])
        source.texts = [texts[i] for i in rows]
    if split := column(table, SPLIT):
        parts = cells(table[split])
        source.split_of = [split_name(parts[i]) or parts[i] for i in rows]
    if label := column(table, LABEL):
        labels = cells(table[label])
        return source.with_labels([labels[i] for i in rows], f"column {label!r} of {path.name}")
    return source


def _problem(place: str, relative: str, kept: dict[str, int]) -> str:
    if relative in kept:
        return "listed twice"
    if not is_image(place) or hidden(os.path.basename(place)):  # noqa: PTH119 (text is faster than Path)
        return "not an image"
    try:
        return "" if os.stat(place).st_size else "empty"  # noqa: PTH116
    except (OSError, ValueError):  # ValueError: a name with a zero byte
        return "not there"


def _nothing(path: Path | Far, written: list[str], skipped: list[dict[str, str]]) -> str:
    if not written:
        return f"{path} lists no images: it has no rows."
    first = skipped[0]
    return (
        f"none of the {len(written):,} images that {path.name} lists can be read: {written[0]!r} is "
        f"{first['reason']} (relative paths start at the folder of the list)."
    )
