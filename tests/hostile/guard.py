"""Watches a process from within: what it writes, starts, asks the network for, unpickles or runs."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn")
ASKS = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "urllib.Request",
    "http.client.connect",
)
RUNS = ("pickle.find_class", "webbrowser.open", "ctypes.dlopen")
CHANGES = re.compile(r"os\.(remove|rename|rmdir|mkdir|link|symlink|chmod|chown|truncate|utime)|shutil\.\w+")


class Guard:
    """What happened outside of the places where a process may write, while it was watched."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.places: tuple[str, ...] | None = None
        self.hostile = ""
        sys.addaudithook(self._hear)

    @contextmanager
    def watching(self, hostile: Path, *places: Path) -> Iterator[list[str]]:
        """hostile: where nothing may be run; places: where it may write."""
        self.seen, self.hostile = [], str(hostile.resolve())
        self.places = tuple(str(place.resolve()) for place in places)
        try:
            yield self.seen
        finally:
            self.places = None

    def _hear(self, event: str, given: tuple) -> None:
        if self.places is None:
            return
        if event in STARTS or event in ASKS or event in RUNS:
            if not (event == "ctypes.dlopen" and _ours(str(given[0]))):
                self._note(event, given)
        elif event == "open":
            path, mode, flags = given
            wanted = isinstance(mode, str) and set(mode) & set("wax+")
            if isinstance(path, str | bytes) and (wanted or (isinstance(flags, int) and flags & WRITES)):
                self._write(event, path)
        elif event == "sqlite3.connect" or CHANGES.fullmatch(event):
            for part in given:
                if isinstance(part, str | bytes | os.PathLike) and event != "os.symlink":
                    self._write(event, os.fspath(part))
        elif event in ("exec", "compile"):
            file = getattr(given[0], "co_filename", None) if event == "exec" else given[1]
            if isinstance(file, str) and not file.startswith("<") and _within(file, self.hostile):
                self._note(event, (file,))

    def _write(self, event: str, path: str | bytes) -> None:
        place = os.fsdecode(path)
        if not any(_within(place, allowed) for allowed in (*(self.places or ()), os.devnull)):
            self._note(event, (os.path.realpath(place),))

    def _note(self, event: str, given: tuple) -> None:
        before, self.places = self.places, None  # what is said of it may itself open something
        self.seen.append(f"{event} {given!r}"[:300])
        self.places = before


def _within(path: str, place: str) -> bool:
    """Whether a path is this place or lies in it."""
    return (os.path.realpath(path) + os.sep).startswith(place + os.sep)


def _ours(name: str) -> bool:
    """A library of an installed package, which is loaded when it is first wanted."""
    return (
        name.startswith((sys.prefix, sys.base_prefix, "/usr/lib", "/lib"))
        or name == "None"
        or "/" not in name
    )


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that lies in a folder: of each file its kind, length and content, of links where they lead."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            own = path.lstat()
            content = os.fsencode(path.readlink()) if path.is_symlink() else b""
            if path.is_file() and not path.is_symlink() and own.st_size < 2**24:
                content = path.read_bytes()
            found[str(path.relative_to(folder))] = (
                own.st_mode,
                own.st_size if path.is_file() else 0,
                content,
            )
    return found


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of a guarded process, which caches and keeps what is temporary within the folder."""
    (folder / "tmp").mkdir()
    tests = Path(__file__).parent.parent
    cache = dict.fromkeys(
        ("TAPETUM_CACHE", "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "XDG_CACHE_HOME"), folder / "cache"
    )
    own = {
        "PYTHONPATH": f"{tests.parent / 'src'}:{tests}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": folder / "tmp",
    }
    own |= {"COLUMNS": "100", "HF_HUB_OFFLINE": "1", "MALLOC_ARENA_MAX": "2"}
    return {**os.environ, **{name: str(value) for name, value in {**cache, **own}.items()}}
