"""Parquet and Arrow files with a column of images, and Hugging Face data sets saved to a folder."""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tapetum.base.errors import TapetumError
from tapetum.base.files import read_json
from tapetum.data.decode import Damaged, one_line
from tapetum.data.far import Far
from tapetum.data.labels import with_values
from tapetum.data.lists import LABEL, SPLIT, TEXT, cells, column, open_list
from tapetum.data.place import here, mapped
from tapetum.data.source import Source
from tapetum.data.stores import Layout, Store, file_stamp, regular
from tapetum.data.structure import split_name
from tapetum.data.tables import as_python, check_count, parquet_file, pyarrow, read_arrow, rows_of

_IMAGE = ("image", "img", "jpg", "jpeg", "png", "picture", "photo", "image_bytes", "bytes", "pixel_values")
_MOST = 2**28  # bytes of row groups of Parquet files that an epoch goes through side by side


class Columns(Store):
    """Images in the rows of Parquet or Arrow files; a key is (number of the file, row group, row in it)."""

    def __init__(self, paths: Sequence[Path | Far], name: str, largest: int = 0):
        """largest: bytes of the largest row group of Parquet files, 0 for Arrow."""
        self.paths, self.name = [path.absolute() for path in paths], name
        self.lanes = max(4, min(64, _MOST // largest)) if largest else 0
        self.most = 2 * max(_MOST, 4 * largest)  # bytes of row groups that are held
        self._forget()

    def _forget(self) -> None:
        self._files: dict[int, Any] = {}
        self._groups: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "name": self.name, "lanes": self.lanes, "most": self.most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _group(self, number: int, group: int) -> Any:
        with self._lock:
            if (number, group) in self._groups:
                self._groups.move_to_end((number, group))
                return self._groups[number, group]
            path = self.paths[number]
            if isinstance(path, Far) or path.suffix == ".parquet":
                if number not in self._files:
                    self._files[number] = parquet_file(path)
                values = rows_of(self._files[number], path, [self.name], [group]).column(0)
                self._held += values.nbytes
                # an epoch ends some and begins others
                while self._groups and (len(self._groups) >= 2 * self.lanes or self._held > self.most):
                    self._held -= self._groups.popitem(last=False)[1].nbytes
            else:  # mapped, so that keeping it costs no memory
                values = read_arrow(path).column(self.name)
            self._groups[number, group] = values
            return values

    def content(self, key: tuple[int, int, int]) -> bytes:
        number, group, row = key
        try:
            value = self._group(number, group)[row].as_py()
            if isinstance(value, dict):
                if value.get("bytes") is None and value.get("path"):
                    value = _beside(self.paths[number].parent, value["path"])
                else:
                    value = value.get("bytes")
        except TapetumError:
            raise
        except Exception as error:
            raise Damaged(f"its row cannot be read ({one_line(error)})") from error
        if not isinstance(value, bytes):
            raise Damaged("empty")
        return value

    def layout(self, keys: Sequence[tuple[int, int, int]]) -> Layout | None:
        if not self.lanes:
            return None
        return Layout.of([(number << 32) + group for number, group, _ in keys], self.lanes)

    def stamp(self, key: tuple[int, int, int]) -> str | None:
        stamp = file_stamp(self.paths[key[0]])
        return stamp and f"{stamp}|{self.name}|{key[1]}|{key[2]}"


def _beside(folder: Path | Far, name: str) -> bytes:
    """The bytes of a file that a row names; a stranger's rows name none outside of their own folder."""
    if isinstance(folder, Far):
        if name.startswith("/") or ".." in name.split("/"):
            raise Damaged("its row names no file in the folder of its table")
        return (folder / name).read_bytes()
    place = (folder / name).resolve()
    if not place.is_relative_to(folder.resolve()) or not place.is_file():
        raise Damaged("its row names no file in the folder of its table")
    return regular(str(place))


def open_saved(folder: Path) -> Source:
    """A Hugging Face data set (or several splits of one) as `save_to_disk` leaves it."""
    several = folder / "dataset_dict.json"
    parts, files, splits = [folder], [], []
    try:
        if several.exists():
            parts = [folder / _own(name) for name in read_json(several)["splits"]]
        for part in parts:
            state = read_json(part / "state.json")
            if state.get("_indices_data_files"):
                raise TapetumError(
                    f"{part} holds a selection by indices; save it again after flatten_indices()."
                )
            names = [_own(row["filename"]) for row in state.get("_data_files", [])]
            files += [part / name for name in names]
            splits += [part.name if several.exists() else ""] * len(names)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TapetumError(f"{folder} is not a saved data set: {one_line(error)}.") from error
    return open_columns(folder.name, files, splits)


def _own(name: str) -> str:
    """The name of something in a folder, and of nothing elsewhere."""
    if name in ("", "..") or Path(name).name != name:
        raise ValueError(f"{name!r} is no name of a file in it")
    return name


def open_parquets(name: str, paths: Sequence[Path | Far]) -> Source:
    """Parquet files with images in them; 'train-00000-of-00002.parquet' belongs to the split train."""
    splits = [split_name(path.stem.split("-")[0]) or split_name(path.parent.name) or "" for path in paths]
    return open_columns(name, paths, splits)


def open_parquet(path: Path | Far) -> Source:
    """One Parquet file: images in it, or a list of paths."""
    near = here(path)
    try:
        image, _ = _image_column(parquet_file(near).schema_arrow)
    except TapetumError:
        raise
    except Exception as error:
        raise TapetumError(f"{path} cannot be read as Parquet: {one_line(error)}.") from error
    if not image:
        return open_list(path)
    return open_parquets(near.name, [near])


def open_columns(name: str, paths: Sequence[Path | Far], splits: Sequence[str]) -> Source:
    """The rows of these files in order; each file belongs to the split given."""
    keys: list[tuple[int, int, int]] = []
    other: dict[str, list[Any]] = {}
    written: list[str | None] = []
    split_of: list[str] = []
    image: str | None = None
    info: dict[str, list[str]] = {}
    largest = 0
    for number, (path, split) in enumerate(zip(paths, splits)):
        try:
            if path.suffix == ".parquet":
                opened = parquet_file(path)
                schema, groups = opened.schema_arrow, opened.metadata
                parts = [groups.row_group(i) for i in range(groups.num_row_groups)]
                counts = [part.num_rows for part in parts]
                largest = max([largest, 1, *(part.total_byte_size for part in parts)])
            else:
                opened = read_arrow(mapped(path))
                schema, counts = opened.schema, [opened.num_rows]
            check_count(sum(counts), path)
            image, info = _image_column(schema)
            if not image:
                raise TapetumError(
                    f"{path} has no column of images; its columns: {', '.join(map(repr, schema.names))}."
                )
            light = [n for n in schema.names if n.lower() in (*LABEL, *TEXT, *SPLIT) and n != image]
            table = rows_of(opened, path, light) if path.suffix == ".parquet" else opened.select(light)
            for n in light:
                other.setdefault(n, [None] * len(keys)).extend(as_python(table.column(n), path))
            written += _written_paths(opened, path, schema, image)
        except TapetumError:
            raise
        except Exception as error:  # whatever the bytes of a stranger make a parser raise
            raise TapetumError(f"{path} cannot be read: {one_line(error)}.") from error
        rows = [(number, group, row) for group, count in enumerate(counts) for row in range(count)]
        keys += rows
        for values in other.values():  # of columns that this file lacks
            values += [None] * (len(keys) - len(values))
        split_of += [split] * len(rows)
    if not keys or not image:
        raise TapetumError(f"{name} holds no images: it has no rows.")
    source = Source(name, Columns(paths, image, largest), keys, _paths(written, split_of))
    if not any(split_of) and (listed := column(other, SPLIT)):
        split_of = [split_name(value) or value for value in cells(other[listed])]
    source.split_of = split_of if any(split_of) else None
    if text := column(other, TEXT):
        source.texts = cells(other[text])
    if label := column(other, LABEL):
        values = [-1 if v is None else v for v in other[label]] if label in info else other[label]
        return with_values(
            source, values if label in info else cells(values), f"column {label!r}", info.get(label)
        )
    return source


def _image_column(schema: Any) -> tuple[str | None, dict[str, list[str]]]:
    """The column of images, and the class names of columns that have them (as Hugging Face notes them)."""
    types = pyarrow("types")
    noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    classes = {
        n: list(map(str, f["names"]))
        for n, f in noted.items()
        if isinstance(f, dict) and f.get("_type") == "ClassLabel"
    }

    def fits(field: Any) -> bool:
        kind = field.type
        if types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return types.is_binary(kind) or types.is_large_binary(kind)

    fitting = [field.name for field in schema if fits(field)]
    marked = [n for n in fitting if isinstance(noted.get(n), dict) and noted[n].get("_type") == "Image"]
    known = [n for n in fitting if n.lower() in _IMAGE]
    return next(iter([*marked, *known, *fitting]), None), classes


def _written_paths(opened: Any, path: Path | Far, schema: Any, image: str) -> list[str | None]:
    """What each row itself says its image is called, or None."""
    kind = schema.field(image).type
    if not pyarrow("types").is_struct(kind) or kind.get_field_index("path") < 0:
        count = opened.metadata.num_rows if path.suffix == ".parquet" else opened.num_rows
        return [None] * count
    if path.suffix == ".parquet":
        values = rows_of(opened, path, [f"{image}.path"]).column(0)
    else:
        values = opened.column(image)
    compute = pyarrow("compute")
    named = compute.struct_field(values, [0 if path.suffix == ".parquet" else kind.get_field_index("path")])
    return [name if isinstance(name, str) else None for name in as_python(named, path)]


def _paths(written: list[str | None], split_of: list[str]) -> list[str]:
    """The written names where all rows have different ones, else numbers; below the split's folder."""
    starts = [f"{split}/" if split else "" for split in split_of]
    named = [start + (name or "").lstrip("/") for start, name in zip(starts, written)]
    if all(written) and len(set(named)) == len(named):
        return named
    counts: dict[str, int] = {}
    out = []
    for start in starts:
        counts[start] = counts.get(start, 0) + 1
        out.append(f"{start}{counts[start] - 1:06d}")
    return out
