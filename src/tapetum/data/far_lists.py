"""The images that a list names by addresses, or below its own distant folder."""

import posixpath
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

from tapetum.base.addresses import is_address, shown
from tapetum.base.errors import TapetumError
from tapetum.data.decode import is_image
from tapetum.data.far import TOGETHER, Far, Found
from tapetum.data.listing import hidden
from tapetum.data.stores import FarFiles

BUCKETS = ("s3", "s3a", "gs", "gcs", "hf", "abfs", "abfss", "az", "memory")  # a host in them is no machine
Images = tuple[FarFiles, list[tuple[str, int, str]], dict[str, int], list[dict[str, str]]]


def images(path: Path | Far, written: list[str]) -> Images:
    """The store, keys, {path: row} and what is left out of the rows of the list `path`.

    All must lie in one bucket or on one server, and on the list's own where that is distant: no list makes
    this machine ask a server that nobody typed. Raises TapetumError.
    """
    first = path if isinstance(path, Far) else Far.of(next(filter(is_address, written)))
    scheme = first.head.partition("://")[0]
    if isinstance(path, Path) and scheme not in BUCKETS:
        raise TapetumError(
            f"{path.name} names places behind {scheme}://, but a list on the disk may name a bucket alone "
            f"({', '.join(BUCKETS)}); elsewhere only what you type yourself is fetched: give the address of "
            "the folder, the archive or the list as DATA."
        )
    start = _plain(path.parent) if isinstance(path, Far) else ""
    places = [_place(first, start, name) for name in written]
    root = _root(start, [place for place in places if place])
    names = [posixpath.relpath(place, root) if place else "" for place in places]
    folder = Far(first.head, "", first.query, first.copy) / root.lstrip("/")
    there = _there(folder, {name for name in names if is_image(name)})
    kept: dict[str, int] = {}
    keys, skipped = [], []
    for row, (name, said) in enumerate(zip(names, written)):
        if reason := _problem(name, said, kept, there):
            skipped.append({"path": name or shown(said) or ".", "reason": reason})
        else:
            kept[name] = row
            keys.append(there[name][:3])
    return FarFiles(folder), keys, kept, skipped


def _plain(place: Far) -> str:
    path = unquote(place.path) if place.web else place.path
    return posixpath.normpath(path or "/")


def _place(first: Far, start: str, name: str) -> str:
    """A row's path from the root of the bucket or server, '' where it lies nowhere there."""
    if is_address(name):
        far = Far.of(name)
        return _plain(far) if far.head == first.head else ""
    return posixpath.normpath(posixpath.join(start, name.replace("\\", "/"))) if name and start else ""


def _root(start: str, places: list[str]) -> str:
    """The list's folder, or the nearest around it that holds all."""
    outside = [place for place in places if not start or not place.startswith(f"{start.rstrip('/')}/")]
    if not outside:
        return start or "/"
    return posixpath.commonpath([start, *outside] if start else [posixpath.dirname(path) for path in outside])


def _there(folder: Far, names: Iterable[str]) -> dict[str, Found]:
    """What is known of these files: folder by folder, or one by one of a web server."""
    with ThreadPoolExecutor(TOGETHER) as pool:
        if folder.web:
            return {found.path: found for found in pool.map(folder.one, names)}
        below = sorted({posixpath.dirname(name) for name in names})
        found: dict[str, Found] = {}
        for start, files in zip(below, pool.map(lambda name: (folder / name).files(1), below)):
            for one in files:
                path = posixpath.join(start, one.path)
                found[path] = one._replace(path=path)
    return found


def _problem(name: str, said: str, kept: dict[str, int], there: dict[str, Found]) -> str:
    if not said:
        return "listed without a path"
    if not name:
        return "at another address than the rest"
    if name in kept:
        return "listed twice"
    if not is_image(name) or hidden(name.rpartition("/")[2]):
        return "not an image"
    if name not in there:
        return "not there"
    return there[name].problem or ("" if there[name].size else "empty")
