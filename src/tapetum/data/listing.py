"""Lists what lies in a folder, a zip or a tar, and sorts images from everything else."""

import os
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tapetum.base.errors import TapetumError
from tapetum.base.harmless import ACTS
from tapetum.data.decode import is_image, one_line
from tapetum.data.far import Far, Found
from tapetum.data.place import remembered
from tapetum.data.stores import FarFiles, Files, Store, Tar, Zip

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")

MAX_MEMBERS = 2**25  # of an archive
_TIGHT = 2**24, 200  # a member longer than this many bytes is at most so many times as long as it is packed
_LONGEST_HEADER = 2**16  # bytes of a name or of what else stands before a member of a tar


class Entry(NamedTuple):
    """One file: its path with '/' from where the listing began, the store's key, and its length in bytes."""

    path: str
    key: Any
    size: int
    problem: str = ""  # why it cannot be read, where that is known already


class Listing(NamedTuple):
    store: Store
    entries: list[Entry]  # sorted by path


def folder(root: Path | Far) -> Listing:
    """Everything below a folder; links are followed, but nothing is entered twice."""
    if isinstance(root, Far):
        return Listing(FarFiles(root), sorted({_far(found) for found in root.files()}))
    entries: list[Entry] = []
    entered = set()
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            here = (root / prefix).stat()
            if (here.st_dev, here.st_ino) in entered:
                continue
            entered.add((here.st_dev, here.st_ino))
            found = list(os.scandir(root / prefix))
        except OSError as error:
            if not prefix:
                raise TapetumError(f"cannot look into {root}: {error.strerror}.") from error
            entries.append(Entry(prefix, prefix, 0, "folder cannot be entered"))
            continue
        for item in found:
            path = prefix + item.name
            try:
                if item.is_dir() and not hidden(item.name):
                    waiting.append(path + "/")
                else:  # a hidden folder counts as one hidden file
                    entries.append(Entry(path, path, item.stat().st_size))
            except OSError:
                entries.append(Entry(path, path, 0, "link to nowhere"))
    return Listing(Files(root), sorted(entries))


def _far(found: Found) -> Entry:
    """A distant file; a hidden folder counts as one hidden file."""
    parts = found.path.split("/")
    for depth, name in enumerate(parts[:-1], 1):
        if hidden(name):
            return Entry("/".join(parts[:depth]), None, 0)
    return Entry(found.path, (found.path, found.size, found.stamp), found.size, found.problem)


def single(path: Path | Far) -> Listing:
    """One file, with the folder that it lies in."""
    if isinstance(path, Far):
        return Listing(FarFiles(path.parent), [_far(path.parent.one(path.name))])
    return Listing(Files(path.parent), [Entry(path.name, path.name, path.stat().st_size)])


def archive(path: Path | Far) -> Listing:
    """Everything in a zip or tar, which is read in place."""
    name = path.name.lower()
    if name.endswith(COMPRESSED):
        raise TapetumError(
            f"{path} is compressed as a whole, so single images cannot be reached in it; "
            "unpack it once to a plain .tar, or repack it as .zip, and both are read in place."
        )
    try:
        return _tar(path) if name.endswith(".tar") else _zip(path)
    except TapetumError:
        raise
    except OSError as error:
        raise TapetumError(f"cannot read {path}: {error.strerror or error}.") from error
    except Exception as error:  # whatever the bytes of a stranger make a parser raise
        raise TapetumError(f"the archive {path} is damaged or incomplete: {one_line(error)}.") from error


def shards(paths: Sequence[Path | Far]) -> Listing:
    """The members of several tar files as if they were one."""
    with ThreadPoolExecutor(16) as pool:
        return _joined(paths, list(pool.map(lambda path: path.is_file(), paths)), pool)


def _joined(paths: Sequence[Path | Far], there: list[bool], pool: ThreadPoolExecutor) -> Listing:
    missing = [path for path, found in zip(paths, there) if not found]
    if missing:
        raise TapetumError(
            f"there is no file {missing[0]} ({len(missing)} of {len(paths)} shards are missing)."
        )
    entries: list[Entry] = []
    for number, found in enumerate(pool.map(archive, paths)):
        entries += [e._replace(key=(number, *e.key[1:])) for e in found.entries]
    seen: dict[str, int] = {}
    for entry in entries:
        seen[entry.path] = seen.get(entry.path, 0) + 1
    stems = [path.stem for path in paths]
    entries = [e if seen[e.path] == 1 else e._replace(path=f"{stems[e.key[0]]}/{e.path}") for e in entries]
    return Listing(Tar(paths), sorted(entries))


def _zip(path: Path | Far) -> Listing:
    entries = []
    with path.open("rb") as handle, zipfile.ZipFile(handle) as opened:
        members = sorted(opened.infolist(), key=lambda info: info.header_offset)
    _check_count(len(members))
    end = 0
    for info in members:
        within, end = info.header_offset < end, info.header_offset + info.compress_size
        if info.is_dir():
            continue
        problem = ""
        if info.flag_bits & 1:
            problem = "encrypted"
        elif info.compress_type not in Zip.METHODS:
            problem = "packed in an unknown way"
        elif within:
            problem = "within another member"
        elif info.file_size > max(_TIGHT[0], _TIGHT[1] * info.compress_size):
            problem = f"over {_TIGHT[1]} times as long as it is packed"
        key = (info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC)
        name = info.filename.replace("\\", "/")  # as some systems write them
        entries.append(Entry(name, key, info.file_size, problem or _unsafe(info.orig_filename)))
    return Listing(Zip(path), sorted(entries))


def _check_count(count: int) -> None:
    if count > MAX_MEMBERS:
        raise ValueError(f"it has more than {MAX_MEMBERS:,} members")


class _Member(tarfile.TarInfo):
    """One whose length a stranger may have written: tarfile walks in circles where it is negative."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        found = super().frombuf(buf, encoding, errors)
        about = found.type in (*tarfile.GNU_TYPES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        if found.size < 0 or (about and not found.issparse() and found.size > _LONGEST_HEADER):
            raise ValueError(f"a header of {found.size:,} bytes")
        return found


def _tar(path: Path | Far) -> Listing:
    rows = remembered(path, _members)
    return Listing(Tar([path]), sorted(Entry(name, tuple(key), *rest) for name, key, *rest in rows))


def _members(path: Path | Far) -> list[Entry]:
    entries: list[Entry] = []
    before = -1
    with path.open("rb") as handle, tarfile.open(fileobj=handle, mode="r:", tarinfo=_Member) as opened:
        for member in opened:
            _check_onwards(before, member.offset, opened.offset)
            before = member.offset
            _check_count(len(entries))
            if member.isdir():
                continue
            problem = "" if member.isreg() and not member.issparse() else "link or special file"
            name = member.name.removeprefix("./")
            key = (0, member.offset_data, member.size)
            entries.append(Entry(name, key, member.size, problem or _unsafe(name)))
    return entries


def _check_onwards(before: int, at: int, end: int) -> None:
    if not before < at < end:
        raise ValueError("its members lead backwards")


def _unsafe(name: str) -> str:
    """Names that point out of an archive do no harm here, but nothing good calls itself so; nor does what
    would act on a terminal."""
    parts = name.replace("\\", "/").split("/")
    hostile = not parts[0] or ".." in parts or name[1:2] == ":" or ACTS.search(name)
    return "unsafe name" if hostile else ""


def hidden(name: str) -> bool:
    """Whether a file or folder is one that systems leave lying about."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "lost+found")


def below(listing: Listing, inner: str) -> list[Entry]:
    """The entries below a folder of the listing, or the one file of that name, with paths from there."""
    inner = inner.strip("/")
    if not inner:
        return listing.entries
    exact = [e._replace(path=e.path.rsplit("/", 1)[-1]) for e in listing.entries if e.path == inner]
    start = inner + "/"
    return exact or [
        e._replace(path=e.path[len(start) :]) for e in listing.entries if e.path.startswith(start)
    ]


def images(entries: Iterable[Entry]) -> tuple[list[Entry], list[dict[str, str]]]:
    """The readable images among the entries, and what was left out as {"path", "reason"}."""
    kept: list[Entry] = []
    skipped = []
    for entry in entries:
        if entry.problem == "unsafe name":
            reason = entry.problem
        elif any(map(hidden, entry.path.split("/"))):
            reason = "hidden"
        elif not is_image(entry.path):
            reason = "not an image"
        elif entry.problem:
            reason = entry.problem
        elif not entry.size:
            reason = "empty"
        elif kept and kept[-1].path == entry.path:
            reason = "twice in the archive"
        else:
            kept.append(entry)
            continue
        skipped.append({"path": entry.path, "reason": reason})
    return kept, skipped
