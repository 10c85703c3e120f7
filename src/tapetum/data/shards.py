"""Data that is many files of many images each: tar shards or Parquet files, opened together or one by one."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tapetum.base.errors import TapetumError
from tapetum.data import listing
from tapetum.data.columns import open_parquets
from tapetum.data.far import Far
from tapetum.data.place import here, place
from tapetum.data.source import Source
from tapetum.data.webdataset import BRACES, expand, open_webdataset

Place = Path | Far


def is_pattern(path: Place, text: str) -> bool:
    """Whether what was typed stands for several files."""
    if isinstance(path, Far) and BRACES.search(path.path):
        return True  # unasked, for some servers refuse what is not there
    written = path.path if isinstance(path, Far) else text
    return ("{" in written or glob.has_magic(written)) and not path.exists()


def matching(pattern: Place) -> list[Place]:
    """The files that a pattern stands for. Raises TapetumError for none, or for mixed kinds."""
    paths = [here(path) for path in expand(os.fspath(pattern))]
    if not paths:
        raise TapetumError(f"no file matches {pattern}.")
    suffixes = {path.suffix.lower() for path in paths}
    if suffixes not in ({".tar"}, {".parquet"}):
        raise TapetumError(
            f"{pattern} must match .tar shards or .parquet files only, not {', '.join(sorted(suffixes))}."
        )
    return paths


def within(folder: Place, found: listing.Listing) -> list[Place]:
    """The tar shards of a folder without images, else its Parquet files, else none."""
    visible = [folder / e.path for e in found.entries if not any(map(listing.hidden, e.path.split("/")))]
    tars = [path for path in visible if path.suffix.lower() == ".tar"]
    return tars or [path for path in visible if path.suffix.lower() == ".parquet"]


def shards_of(data: Any) -> list[Place]:
    """The shards that DATA is made of, in their order; none where it is anything else, or one file."""
    if not isinstance(data, str | os.PathLike):
        return []
    path = place(data)
    if is_pattern(path, os.fspath(data)):
        return matching(path)
    try:
        if not path.is_dir() or any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return []
    except TapetumError:  # refused, as a folder in an archive may be
        return []
    found = listing.folder(path)
    return [] if listing.images(found.entries)[0] else within(path, found)


def open_shards(name: str, paths: Sequence[Place]) -> Source:
    """Shards of one kind as one source."""
    if paths[0].suffix.lower() == ".tar":
        return open_webdataset(name, listing.shards(paths))
    return open_parquets(name, paths)
