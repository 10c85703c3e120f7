"""A place behind an address (s3://, gs://, hf://, https://, memory:// ...): what `Path` is for a disk."""

import functools
import html
import io
import os
import posixpath
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import IO, Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote

from tapetum.base.addresses import ADDRESS, shown
from tapetum.base.errors import TapetumError
from tapetum.base.files import cache_dir, replacing, short_id
from tapetum.data.asking import asked, plain
from tapetum.data.form import Damaged

TOGETHER = 32  # requests at a time
DEEPEST = 64  # folders within folders of a web server
_PIECE = 2**24  # bytes of a file that are copied at a time
_WRAPPERS = {"reference", "dir", "zip", "tar", "libarchive", "generic", "blockcache", "cached", "dask"}
_VERSIONS = (
    *("ETag", "etag", "md5Hash", "blob_id", "LastModified", "Last-Modified", "updated", "mtime", "created"),
)
Answer = TypeVar("Answer")


class Found(NamedTuple):
    """One file: its path below the place that was looked through, its length and what names its version."""

    path: str
    size: int
    stamp: str
    problem: str = ""


class Far:
    """A place that fsspec reaches; the part of pathlib's manners that reading data needs.

    `str` shows it without password and query, `os.fspath` gives all that was typed. It pickles, and connects
    anew in every process. Whatever asks tries several times (`asked`) and then raises Damaged.
    """

    def __init__(self, head: str, path: str, query: str = "", copy: bool = False):
        """head: scheme and host or bucket, such as s3://photos; path: what follows, '' or from '/' on;
        copy: whether a file is copied to this disk before it is read."""
        self.head, self.path, self.query, self.copy = head, path.rstrip("/"), query, copy
        self.web = head.lower().startswith(("http://", "https://"))

    @classmethod
    def of(cls, text: str) -> "Far":
        """What was typed, 'filecache::s3://bucket/photos.zip' say. Raises TapetumError."""
        found = ADDRESS.match(text)
        assert found
        scheme, rest = found[1].lower(), text[found.end() :]
        if scheme in _WRAPPERS:
            raise TapetumError(f"{text} is no place of files; an archive is named as s3://bucket/photos.zip.")
        query = ""
        if scheme in ("http", "https"):
            rest, mark, query = rest.partition("?")
            query = mark + query.partition("#")[0]
            rest = rest.partition("#")[0]
        host, slash, path = rest.partition("/")
        if not host and scheme != "memory":
            raise TapetumError(f"{text} names no host or bucket.")
        return cls(f"{scheme}://{host}", slash + path, query, bool(found.start(1)))

    # ---- as a path ----

    def __fspath__(self) -> str:
        return "filecache::" * self.copy + self.address

    @property
    def address(self) -> str:
        return self.head + self.path + self.query

    def __str__(self) -> str:
        return shown(self.head + self.path)

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Far) and os.fspath(self) == os.fspath(other)

    def __hash__(self) -> int:
        return hash(os.fspath(self))

    def __truediv__(self, below: str) -> "Far":
        text = posixpath.normpath(str(below))
        written = quote(text, errors="surrogateescape") if self.web else text
        whole = posixpath.normpath(f"{self.path}/{written}")
        return Far(self.head, "" if whole in ("/", "/.") else whole, self.query, self.copy)

    @property
    def name(self) -> str:
        """Its last part, which is never a path; of a whole bucket that one's name."""
        last = self.path.rpartition("/")[2] or self.head.rpartition("/")[2].rpartition("@")[2]
        return re.split(r"[/\\]", unquote(last))[-1] if self.web else last

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.name)[1]

    @property
    def stem(self) -> str:
        return posixpath.splitext(self.name)[0]

    @property
    def parent(self) -> "Far":
        return Far(self.head, self.path.rpartition("/")[0], self.query, self.copy)

    @property
    def parents(self) -> list["Far"]:
        return [] if not self.path else [self.parent, *self.parent.parents]

    def relative_to(self, outer: "Far") -> Path:
        below = self.path[len(outer.path) :].strip("/")
        return Path(unquote(below) if self.web else below)

    def absolute(self) -> "Far":
        return self

    def expanduser(self) -> "Far":
        return self

    # ---- what is there ----

    def exists(self) -> bool:
        return self._info is not None

    def is_file(self) -> bool:
        return self._info is not None and self._info["type"] == "file"

    def is_dir(self) -> bool:
        return self._info is not None and self._info["type"] != "file"

    def stat(self) -> SimpleNamespace:
        """Its length as st_size. Raises Damaged where it is not there, TapetumError where nobody can say."""
        if self._info is None:
            raise Damaged("not there")
        if self._info.get("size") is None:
            raise Damaged("of unknown length, for its server is silent; write filecache:: before the address")
        return SimpleNamespace(st_size=self._info["size"])

    def stamp(self) -> str | None:
        """What changes with the content, as far as the place says; None where it says nothing."""
        return _stamp(self, self._info) if self._info else None

    @functools.cached_property
    def _info(self) -> dict[str, Any] | None:
        try:
            found = self._asked(lambda fs, path, **how: fs.info(path, **how))
        except Damaged as error:
            if str(error) == "not there":
                return None
            raise TapetumError(f"cannot reach {self}: {error}.") from error
        if self.web and found.get("mimetype") == "text/html" and self.suffix.lower() not in (".html", ".htm"):
            return found | {"type": "directory"}
        return found

    def neighbours(self) -> list[str]:
        """The names beside it, as far as they can be had."""
        folder = self.parent.address
        try:
            names = self._surely(lambda fs, *_, **how: fs.ls(plain(fs, folder), detail=False, **how))
        except TapetumError:
            return []
        return [name.rstrip("/").rpartition("/")[2] for name in names]

    def glob(self) -> list["Far"]:
        """The files that this path, taken as a pattern, fits; sorted."""
        base, names = self._surely(lambda fs, path, **_: (plain(fs, self.head), fs.glob(path)))
        return [Far(self.head, f"/{n[len(base) :].lstrip('/')}", "", self.copy) for n in sorted(names)]

    def files(self, depth: int | None = None) -> list[Found]:
        """Every file below this folder, or only so many folders deep (but of a web server)."""
        if self.web:
            return self._linked()
        start = self._surely(lambda fs, path, **how: path).rstrip("/") + "/"
        found = self._surely(lambda fs, path, **_: fs.find(path, depth, detail=True))  # however long it takes
        return [
            Found(name[len(start) :], info.get("size") or 0, _stamp(self / name[len(start) :], info))
            for name, info in found.items()
            if name.startswith(start) and not name.endswith("/")
        ]

    def _linked(self) -> list[Found]:
        """The files that a web server's pages of folders link to, below this folder and nowhere else."""
        base = self.head + self.path + "/"
        waiting, entered, found = [""], set(), []
        while waiting:
            folder = waiting.pop()
            entered.add(folder)
            for link in self._links(base + folder + self.query):
                below = link.removeprefix(base)
                up = ".." in re.split(r"[/\\]", unquote(below))  # as the server will read it
                strange = below == link or "?" in below or "#" in below or up
                if strange or not below or below in entered or below.count("/") > DEEPEST:
                    continue
                if below.endswith("/"):
                    entered.add(below)
                    waiting.append(below)
                else:
                    found.append(unquote(below, errors="surrogateescape"))
        with ThreadPoolExecutor(TOGETHER) as pool:
            return list(pool.map(self.one, sorted(set(found))))

    def _links(self, page: str) -> set[str]:
        links = self._surely(lambda fs, _, **how: fs.ls(page, detail=False, **how))
        return {html.unescape(link) for link in links}

    def one(self, below: str) -> Found:
        """The file of this path below, with its problem where it cannot be looked at."""
        place = self / below
        try:
            size, stamp = place.stat().st_size, place.stamp() or ""
        except TapetumError as error:
            return Found(below, 0, "", str(error.__cause__ or error))
        return Found(below, size, stamp)

    # ---- its bytes ----

    def read(self, start: int | None = None, end: int | None = None) -> bytes:
        """All of it, or the bytes from `start` up to `end`. Raises Damaged."""
        content = self._asked(lambda fs, path, **how: fs.cat_file(path, start=start, end=end, **how))
        if start is not None and end is not None and len(content) > end - start:
            raise Damaged("its server gives whole files only; write filecache:: before the address")
        return content

    def read_bytes(self) -> bytes:
        return self.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self._surely(lambda fs, path, **how: fs.cat_file(path, **how)).decode(encoding)

    def open(self, mode: str = "r", *, encoding: str | None = None, newline: str | None = None) -> IO[Any]:
        """A file that is read in blocks, wherever one seeks to. Its errors are Damaged and name it."""
        from tapetum.data.blocks import File

        raw = io.BufferedReader(File(self), 2**16)
        return raw if "b" in mode else io.TextIOWrapper(raw, encoding=encoding, newline=newline)

    def write(self, content: bytes) -> None:
        """Put a whole file there, or none of it. Raises TapetumError."""
        self._surely(lambda fs, path, **how: fs.pipe_file(path, content, **how))

    def unlink(self) -> None:
        """Remove this file. Raises TapetumError."""
        self._surely(lambda fs, path, **how: fs.rm_file(path))

    def copied(self) -> Path:
        """Itself on this machine's disk, copied there unless it surely was before. Raises TapetumError."""
        if self._info is None:
            raise TapetumError(f"there is no {self}.")
        version = short_id({"place": self.address, "version": self.stamp()})
        name = PureWindowsPath(self.name).name  # without folders and drives, whatever system this is
        if name in ("", "..") or "\0" in name:
            raise TapetumError(f"{self} cannot be copied: its last part is no name of a file.")
        kept = cache_dir() / "copies" / version / name
        if not self.stamp() or not kept.exists():
            with replacing(kept) as file:
                self._copy(file)
        return kept

    def _copy(self, file: Path) -> None:
        if self._info is None or self._info.get("size") is None:
            return self._surely(lambda fs, path, **_: fs.get_file(path, str(file)))  # however long it takes
        size = self._info["size"]
        with file.open("wb") as out:
            for start in range(0, size, _PIECE):
                end = min(start + _PIECE, size)
                part = self._surely(lambda fs, path, a=start, b=end, **how: fs.cat_file(path, a, b, **how))
                out.write(part)
                if len(part) > end - start:  # a server that gives whole files only
                    break
            if out.tell() != size:
                raise TapetumError(f"{self} broke off, or changed while it was copied; try again.")

    def _surely(self, ask: Callable[..., Answer]) -> Answer:
        """The same for what nothing can be done without: a failure is a whole sentence."""
        try:
            return self._asked(ask)
        except Damaged as error:
            raise TapetumError(f"cannot reach {self}: {error}.") from error

    def _asked(self, ask: Callable[..., Answer]) -> Answer:
        return asked(self.head, self.address, ask)


def _stamp(place: Far, info: dict[str, Any]) -> str:
    """A text that names the version of a file, '' where nothing but its length is known."""
    said = next((str(info[name]) for name in _VERSIONS if info.get(name)), "")
    return f"{place.head}{place.path}|{info.get('size')}|{said}" if said else ""
