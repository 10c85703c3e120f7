"""Files that are written whole or not at all, and the folder for what can be computed again."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError

from tapetum.base.errors import TapetumError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

DEEPEST = 64  # lists within lists of a JSON text


def cache_dir() -> Path:
    """Where features and fingerprints are kept: $TAPETUM_CACHE, or ~/.cache/tapetum."""
    return Path(os.environ.get("TAPETUM_CACHE") or Path.home() / ".cache" / "tapetum")


def short_id(facts: dict[str, Any]) -> str:
    """12 hex digits that name these facts, whatever their order."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextlib.contextmanager
def replacing(path: str | Path):
    """Yield a temporary path beside `path`; on success it is synced and takes the name `path`.

    Raises TapetumError when the disk is full or the folder cannot be written; `path` is then untouched.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # last, for some libraries put a new file in its place
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise TapetumError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}.") from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk, so that a rename survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write `content` so that a reader finds the old file or the new one, never a part."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically; not-a-number is refused rather than written as something no reader takes."""
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON, or say in one sentence which file is missing or damaged."""
    try:
        return parsed(read_text(path))
    except FileNotFoundError:
        raise TapetumError(f"there is no file {path}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise TapetumError(f"{path} is not readable JSON: {error}.") from error


def parsed(text: str | bytes) -> Any:
    """What a JSON text says; raises ValueError, also for what is nested too deeply to be walked through."""
    try:
        whole = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} deep") from None
    layer = [whole]
    for _ in range(DEEPEST):
        nests = [one for one in layer if isinstance(one, dict | list)]
        if not nests:
            return whole
        layer = [part for one in nests for part in (one.values() if isinstance(one, dict) else one)]
    raise ValueError(f"it is nested more than {DEEPEST} deep")


def regular(path: str | Path) -> Path:
    """The path; raises TapetumError for a device or a pipe, which have no end."""
    path = Path(path)
    if path.exists() and not path.is_file():
        raise TapetumError(f"{path} is no regular file.")
    return path


def read_text(path: str | Path) -> str:
    """The text of a file; raises OSError, and TapetumError as `regular` does."""
    return regular(path).read_text(encoding="utf-8")


def write_lines(path: str | Path, rows: Iterable[dict]) -> None:
    """Write JSON lines atomically."""
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


def append_line(path: str | Path, row: dict) -> None:
    """Add one JSON line."""
    append(path, json.dumps(row) + "\n")


def append(path: str | Path, text: str) -> None:
    """Add text at the end of a file, or nothing of it. Raises TapetumError when the disk is full."""
    try:
        with Path(path).open("ab", buffering=0) as handle:
            before, rest = handle.seek(0, os.SEEK_END), text.encode()
            try:
                while rest:
                    rest = rest[handle.write(rest) :]
            except OSError:
                with contextlib.suppress(OSError):
                    handle.truncate(before)
                raise
    except OSError as error:
        raise TapetumError(f"cannot write {path}: {error.strerror or error}.") from error


def read_lines(path: str | Path, kind: type = dict) -> list[Any]:
    """Read JSON lines, up to the first that is not whole (the process was killed) or not of the kind."""
    rows: list[Any] = []
    try:
        for line in read_text(path).splitlines():
            rows.append(parsed(line))
            if not isinstance(rows[-1], kind):
                return rows[:-1]
    except ValueError:
        pass
    return rows


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While it lasts nobody else is alone with this folder; raises TapetumError where there can be no folder.

    A file system without locks, and a system without them, lets all in.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY) if fcntl else None
    except OSError as error:
        raise TapetumError(f"cannot write in {folder}: {error.strerror or error}.") from error
    try:
        if handle is not None:
            lock(handle)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def lock(file: IO | int, wait: bool = True) -> bool:
    """Keep an open file from other processes that ask for it, until it is closed; False where one has it.

    A file system without locks gives none, and says yes.
    """
    if fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError:
            pass
    return True
