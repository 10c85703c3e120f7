"""Gives a source its labels: from its own columns, from folders, from a file, or none."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.base.errors import TapetumError, unknown
from tapetum.data.far import Far
from tapetum.data.lists import LABEL, PATH, cells, column, path_column, read_table
from tapetum.data.place import place
from tapetum.data.source import Source
from tapetum.data.structure import forced_classes, likely_classes, split_name, splits


def apply(source: Source, labels: Any) -> Source:
    """`labels`: 'auto' | 'folders' | 'none' | path of a table | one label per image; see `open_data`."""
    if not isinstance(labels, str | Path | Far):
        return with_values(source, labels, "given values")
    if labels == "none":
        return source.without_labels()
    if labels not in ("auto", "folders"):
        path = place(labels)
        if not path.suffix and not path.exists():
            raise unknown("labels", str(labels), ("auto", "folders", "none", "FILE"))
        return join(source, path)
    if labels == "auto" and source.labels is not None:
        return source
    below = splits(source.paths)[1]
    if labels == "folders":
        names = forced_classes(source.paths, below)
        if not any(names):
            raise TapetumError(f"{source.name} has no folders to take classes from.")
        return source.with_labels(names, "folders")
    found, reason = likely_classes(below)
    if found is None:
        return source.without_labels(reason)
    return source.with_labels(found, "folders")


def with_values(source: Source, values: Any, origin: str, classes: Sequence[str] | None = None) -> Source:
    """Labels from an array or list of numbers or names, one per image; -1 and None are unknown.

    `classes` names the numbers 0, 1, ... where they have names.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.empty((len(values), 0))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (len(source),):
        raise TapetumError(
            f"labels of shape {list(array.shape)} do not give one class to each of {len(source):,} images; "
            "labels='none' leaves them out."
        )
    if array.dtype.kind in "iub" and classes is not None:
        if array.size and int(array.max()) >= len(classes):
            raise TapetumError(
                f"label {int(array.max())} is beyond the {len(classes)} classes of {source.name}."
            )
        return source.with_labels([classes[v] if v >= 0 else None for v in array.tolist()], origin, classes)
    names = cells(array.tolist())
    if array.dtype.kind in "if":
        names = ["" if name.startswith("-") else name for name in names]
    return source.with_labels(names, origin, classes)


def join(source: Source, path: Path | Far) -> Source:
    """Labels from a table, matched by relative path: as written, else without the leading split folder."""
    table = read_table(path)
    paths = path_column(table, path)
    label = column(table, LABEL)
    if not label:
        others = [name for name in table if name.lower() not in PATH]
        if len(others) != 1:
            raise TapetumError(
                f"{path.name} has no column of labels ('label' or 'class', say); "
                f"its columns: {', '.join(map(repr, table))}."
            )
        label = others[0]
    written = [_plain(name) for name in cells(table[paths])]
    exact = {name: row for row, name in reversed(list(enumerate(written))) if name}
    loose = {_without_split(name): row for name, row in exact.items()}
    loose = {**loose, **exact}
    below = [_plain(name) for name in splits(source.paths)[1]] if source.splits else source.paths
    values = cells(table[label])
    found = [
        exact.get(full, exact.get(short, loose.get(full)))
        for full, short in zip(map(_plain, source.paths), below)
    ]
    names = [None if row is None else values[row] for row in found]
    used = {row for row in found if row is not None}
    if not used:
        shown = written[0] if written else "nothing"
        raise TapetumError(
            f"none of the {len(written):,} paths in {path.name} is an image of {source.name}: "
            f"the table has {shown!r}, the data {source.paths[0]!r}."
        )
    out = source.with_labels(names, path.name)
    further = {name: cells(table[name]) for name in table if name not in (paths, label)}
    joined = {name: ["" if row is None else text[row] for row in found] for name, text in further.items()}
    out.columns = {**source.columns, **joined}
    left = len(
        set(written[row] for row in range(len(written)) if row not in used) - {written[r] for r in used}
    )
    missed = len(source) - sum(name is not None for name in names)
    if left or missed:
        out.notes = [
            *source.notes,
            f"{path.name}: {left:,} rows without an image, {missed:,} images without a row",
        ]
    return out


def _plain(path: str) -> str:
    """One spelling for one path."""
    return unicodedata.normalize("NFC", path.replace("\\", "/")).removeprefix("./")


def _without_split(path: str) -> str:
    first, _, rest = path.partition("/")
    return rest if rest and split_name(first) else path
