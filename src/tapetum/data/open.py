"""`open_data`: makes a `Source` of whatever holds images."""

import copy
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tapetum.base.errors import TapetumError
from tapetum.data import labels as labelling
from tapetum.data import listing
from tapetum.data.arrays import open_array, open_npz
from tapetum.data.asking import REFUSED
from tapetum.data.columns import open_columns, open_parquet, open_saved
from tapetum.data.decode import EXTENSIONS, MAX_PIXELS
from tapetum.data.far import Far
from tapetum.data.items import open_items
from tapetum.data.lists import open_list
from tapetum.data.packed import Pack, open_pack
from tapetum.data.place import here, mapped, place
from tapetum.data.shards import is_pattern, matching, open_shards, within
from tapetum.data.source import Source
from tapetum.data.structure import splits
from tapetum.data.webdataset import is_webdataset, open_webdataset

_KINDS = (
    "a folder, .zip, .tar, .csv, .tsv, .jsonl, .parquet, .arrow, .npz, .npy, .pack, one image, "
    "or tar shards as 'shard-{000..009}.tar'"
)


def open_data(
    data: Any, labels: Any = "auto", split: str | None = None, max_pixels: int = MAX_PIXELS
) -> Source:
    """Images from anywhere.

    data    a path or an address (s3://bucket/photos.zip, see docs/far.md): folder (flat, of class folders, or
            with train/ val/ test/ in it), a zip or tar and perhaps a folder within ('photos.zip/train'), a
            CSV, TSV, JSON-lines or Parquet list, WebDataset shards, a saved Hugging Face data set, Parquet or
            Arrow with images, .npz or .npy, a pack, one image; or a map-style torch Dataset, an array or
            tensor ([N, H, W, C], [N, C, H, W] or [N, H, W], uint8 or floats in [0, 1]); or a Source.
    labels  'auto' (what the data brings, else class folders where folders look like classes), 'folders',
            'none', the path of a table joined by relative path, or one label per image.
    split   None for everything, or one of `source.splits`.
    max_pixels  images of more are damaged.
    Raises TapetumError for what cannot be opened or holds no images.
    """
    source = copy.copy(data) if isinstance(data, Source) else _find(data)
    if not len(source):
        raise TapetumError(f"{source.name} holds no images.{_left_out(source.skipped)}")
    settled = isinstance(data, Source) or isinstance(source.store, Pack)  # keeps what it has, also no labels
    if source.split_of is None:
        source.split_of = splits(source.paths)[0]
    if not settled or labels != "auto":
        source = labelling.apply(source, labels)
    source = source.part(split) if split else source
    if max_pixels != MAX_PIXELS:
        source.max_pixels = max_pixels
    return source


def _find(data: Any) -> Source:
    if isinstance(data, str | os.PathLike):
        try:
            return _open_path(os.fspath(data))
        except OSError as error:  # a name that is too long, a folder of somebody else
            raise TapetumError(f"{os.fspath(data)} cannot be opened: {error.strerror or error}.") from error
    if hasattr(data, "__array__") or (type(data).__module__.startswith("torch") and hasattr(data, "numpy")):
        return open_array("array", data)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, dict):
        return open_items(data)
    raise TapetumError(
        f"{type(data).__name__} is no data; allowed: a path, a map-style data set (with a length), "
        "an array or tensor."
    )


def _open_path(text: str) -> Source:
    path = place(text)
    if not text.strip():
        raise TapetumError("DATA is an empty path.")
    if is_pattern(path, text):
        return open_shards(path.name, matching(path))
    there, inner = on_disk(path)
    outer = here(there)
    if outer.is_dir():
        return _open_folder(outer)
    suffix = outer.suffix.lower()
    if inner and suffix not in (".zip", ".tar") and not outer.name.lower().endswith(listing.COMPRESSED):
        raise TapetumError(f"{outer} is a file, not a folder or archive, so there is no {inner!r} in it.")
    if suffix in (".zip", ".tar") or outer.name.lower().endswith(listing.COMPRESSED):
        return _open_archive(outer, inner)
    if suffix in (".csv", ".tsv", ".jsonl", ".ndjson"):
        return open_list(there)
    if suffix == ".parquet":
        return open_parquet(there)
    if suffix == ".arrow":
        return open_columns(outer.name, [mapped(outer)], [""])
    if suffix in (".npz", ".npy"):
        return open_npz(outer)
    if suffix == ".pack":
        return open_pack(mapped(outer))
    if suffix in EXTENSIONS:
        return _from_entries(outer.name, *listing.single(outer))
    raise TapetumError(f"{outer} is of a kind that cannot be opened; allowed: {_KINDS}.")


def on_disk(path: Path | Far) -> tuple[Path | Far, str]:
    """The part of a path that exists, and what continues inside of that file."""
    refused: TapetumError | None = None
    for outer in (path, *path.parents):
        try:
            if outer.is_file() or (outer == path and outer.exists()):
                return outer, path.relative_to(outer).as_posix() if outer != path else ""  # type: ignore[arg-type]
            if outer.is_dir():
                break
        except TapetumError as error:
            if str(error.__cause__) != REFUSED:
                raise
            refused = refused or error  # so many servers say that there is no such file
    if refused:
        raise refused
    if isinstance(path, Far):
        raise TapetumError(f"there is no {path}{_nearest(path.name, path.neighbours()) or '.'}")
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    hint = _nearest(missing.name, [item.name for item in missing.parent.iterdir()])
    raise TapetumError(f"there is no {missing}{hint or '.'}")


def _nearest(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _from_entries(name: str, store: listing.Store, entries: list[listing.Entry]) -> Source:
    kept, skipped = listing.images(entries)
    source = Source(name, store, [e.key for e in kept], [e.path for e in kept])
    source.skipped = skipped
    return source


def _open_folder(folder: Path | Far) -> Source:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return open_saved(mapped(folder))
    found = listing.folder(folder)
    name = folder.absolute().name or "data"
    source = _from_entries(name, found.store, found.entries)
    if len(source) or not found.entries:
        return source
    if shards := within(folder, found):
        return open_shards(name, shards)
    for path in (folder / e.path for e in found.entries if not any(map(listing.hidden, e.path.split("/")))):
        if path.suffix.lower() in (".zip", ".csv", ".tsv", ".npz", ".pack"):
            raise TapetumError(f"{folder} itself holds no images; perhaps {path} is meant?")
    return source


def _open_archive(path: Path | Far, inner: str) -> Source:
    found = listing.archive(path)
    entries = listing.below(found, inner)
    if inner and not entries:
        folders = {
            "/".join(e.path.split("/")[:k]) for e in found.entries for k in range(1, e.path.count("/") + 1)
        }
        top = sorted({name.split("/")[0] for name in folders})[:10]
        hint = _nearest(inner, sorted(folders)) or (
            f"; it has {', '.join(top)}." if top else "; it has no folders."
        )
        raise TapetumError(f"there is no {inner!r} in {path}{hint}")
    name = f"{path.name}/{inner}" if inner else path.name
    if path.suffix.lower() == ".tar" and is_webdataset(entries):
        return open_webdataset(name, found._replace(entries=entries))
    source = _from_entries(name, found.store, entries)
    if not len(source) and any(row["reason"] == "encrypted" for row in source.skipped):
        raise TapetumError(f"{path} is encrypted; unpack it with its password and pack it again without one.")
    return source


def _left_out(skipped: list[dict[str, str]]) -> str:
    if not skipped:
        return " It is empty."
    first = skipped[0]
    return f" It has {len(skipped):,} other file(s); the first, {first['path']!r}, is {first['reason']}."
