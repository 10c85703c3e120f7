"""What a parser may do with an input: a value, or one clear sentence; all else is a finding."""

import contextlib
import hashlib
import io
import os
import re
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapetum.base.errors import TapetumError
from tapetum.base.harmless import harmless

LONGEST = 1000  # characters of a sentence
GROWTH = 500_000_000  # bytes of memory that one input may take
PATIENCE = 10  # seconds of the processor that one input may take
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
)
_CHANGES += ("shutil.rmtree", "shutil.copyfile", "shutil.move", "shutil.unpack_archive")
_RUNS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class")
_PLACE = re.compile(r"(?:/[\w.-]+){2,}")  # names of files say nothing to others, and differ
_TALKS = ("socket.connect", "socket.sendto", "urllib.Request", "webbrowser.open")


@dataclass(frozen=True)
class Target:
    """One parser that meets outside bytes.

    Args:
        run: (input, folder): gives the input to the parser. Images that count as left out are its own affair.
        seeds: small whole inputs.
        beside: puts what must stand beside the input into the folder, once.
        mend: makes checksums right again, since most damage would else end at them.
    """

    run: Callable[[bytes, Path], Any]
    seeds: Callable[[], list[bytes]]
    beside: Callable[[Path], None] | None = None
    mend: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True)
class Finding:
    """What went wrong, and an id that is the same for the same place in the code."""

    why: str
    id: str
    trace: str = ""


class Wrong(Exception):
    """What a parser gave is not what it promises."""


def sentence(error: TapetumError | str) -> None:
    """Raises Wrong unless this is one line that a person can read."""
    text = str(error)
    if len(text) >= LONGEST:
        raise Wrong(f"a sentence of {len(text):,} characters: {text[:60]!r}...")
    if not text or harmless(text) != text:
        raise Wrong(f"a sentence that is empty or holds control characters: {text[:200]!r}")


def judged(target: Target, data: bytes, folder: Path) -> Finding | None:
    """Give the input to the parser; None where that ends well. What it prints is thrown away.

    `folder` is the target's own, prepared by `beside`: nothing may be written anywhere else.
    """
    before, began = _memory(), time.process_time()
    _Watch.begin(folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                target.run(data, folder)
            except TapetumError as error:
                sentence(error)
    except Exception as error:
        return _finding(error)
    finally:
        wrong = _Watch.end()
    if wrong:
        return Finding(_PLACE.sub("FILE", wrong[0]), _id(wrong[0].split(":")[0]))
    if (took := time.process_time() - began) > PATIENCE:
        return Finding(f"took {took:.0f} seconds", _id("time"))
    if (grew := _memory("VmHWM") - before) > GROWTH:
        return Finding(f"took {grew / 1e6:,.0f} MB", _id("memory"))
    return None


def _finding(error: Exception) -> Finding:
    cause = error.__context__ if isinstance(error, Wrong) and error.__context__ else error
    frames = traceback.extract_tb(cause.__traceback__)
    places = [f"{Path(f.filename).name}:{f.name}" for f in frames if "fuzzing" not in f.filename]
    own = [p for p, f in zip(places, frames) if "tapetum" in f.filename]
    where = [*own[-2:], *places[-1:]]
    why = f"{type(error).__name__}: {_PLACE.sub('FILE', ' '.join(str(error).split()))[:200]}"
    said = "".join(traceback.format_exception(cause))[-4000:]
    return Finding(why, _id(type(error).__name__, *where), said)


def _id(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]


def _memory(peak: str = "") -> int:
    """The memory of this process, in bytes, or the most of it since that was last asked without `peak`."""
    try:
        if not peak:
            Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is taken now
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(peak or "VmRSS"))
    except OSError:  # not on Linux
        return 0


class _Watch:
    """Notes files that are written outside of one folder, programs that are begun, and connections."""

    folder = ""
    wrong: list[str] = []
    hooked = False

    @classmethod
    def begin(cls, folder: Path) -> None:
        if not cls.hooked:
            sys.addaudithook(cls._seen)
            cls.hooked = True
        cls.folder, cls.wrong = os.path.realpath(folder), []

    @classmethod
    def end(cls) -> list[str]:
        cls.folder, found = "", cls.wrong
        return found

    @classmethod
    def _seen(cls, event: str, args: tuple) -> None:
        if not cls.folder:
            return
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | bytes) and isinstance(flags, int) and flags & _WRITES:
                cls._changed(event, path)
        elif event in _CHANGES and not any(type(arg) is int and arg >= 0 for arg in args[1:]):
            for path in args[:2]:  # relative to an open folder: it is the end of shutil.rmtree
                if isinstance(path, str | bytes | os.PathLike):
                    cls._changed(event, os.fspath(path))
        elif event in _RUNS or event in _TALKS:
            cls._note(f"{event}: {args!r:.150}")

    @classmethod
    def _changed(cls, event: str, path: str | bytes) -> None:
        place = os.path.realpath(os.fsdecode(path))
        if not place.startswith(cls.folder + "/") and place != os.devnull and "__pycache__" not in place:
            cls._note(f"{event}: {place}")

    @classmethod
    def _note(cls, what: str) -> None:
        """Remember it, and do not let it happen."""
        cls.wrong.append(what)
        raise Wrong(what)
