"""One start at a time trains in a run's folder: a lock that ends with the process that holds it."""

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import IO, Any

import torch

from tapetum.base import distributed
from tapetum.base.errors import TapetumError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

FILE = ".lock"


class Claim:
    """A context in which no other process can train in a folder; it is made where it is not there.

    The system's own lock on a file, so nothing is left of it when the process is killed or the machine goes
    down. Where the file system has no locks (some NFS), what the file says is believed: a process of this
    machine that lives, or any of another machine. Of several processes of one run the first asks for all.
    Raises TapetumError saying who has it.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / FILE
        self.file: IO[bytes] | None = None
        self.made = False

    def __enter__(self) -> "Claim":
        holder = self._take() if distributed.rank() == 0 else None
        if distributed.total(torch.tensor([float(holder is not None)])) > 0:
            raise TapetumError(self._taken(holder or said(self.path)))
        return self

    def _take(self) -> dict[str, Any] | None:
        """Take the lock; or who has it."""
        try:
            self.made = not self.folder.exists()
            if self.made:
                self.folder.mkdir(parents=True, exist_ok=True)
            self.file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
            if (locked := self._locked()) is False or (locked is None and alive(said(self.path))):
                self.file.close()
                self.file = None
                return said(self.path)
            self.file.truncate(0)
            self.file.write(json.dumps(me()).encode())
        except OSError as error:
            raise TapetumError(f"cannot write {self.path}: {error.strerror or error}.") from error
        if not self._same():  # whoever had it has removed it meanwhile
            return self._take()
        return None

    def _locked(self) -> bool | None:
        """Whether the system gave the lock; None where there are none."""
        assert self.file
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except (OSError, AttributeError):
            return None
        return True

    def _same(self) -> bool:
        """Whether the file that is locked is the one that stands there."""
        assert self.file
        try:
            return os.path.samestat(os.fstat(self.file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def _taken(self, holder: dict[str, Any]) -> str:
        who = "another process"
        if holder:
            who = f"process {holder['process']} on {holder['host']}, since {holder['since']}"
        return (
            f"{self.folder} is being trained by {who}; wait for it or stop it. "
            f"(If it is no longer there, remove {self.path}.)"
        )

    def __exit__(self, *_: object) -> None:
        if self.file:
            with contextlib.suppress(OSError):
                self.path.unlink()
                if self.made:
                    self.folder.rmdir()  # where no run began
            self.file.close()


def me() -> dict[str, Any]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def said(path: Path) -> dict[str, Any]:
    """Who a lock's file says that has it; nothing where it says nothing."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
        if isinstance(found, dict) and found.keys() >= {"process", "host", "since"}:
            return found
    return {}


def alive(holder: dict[str, Any]) -> bool:
    """Whether a process is there, as far as it can be known: one of another machine is."""
    if not holder or holder["host"] != socket.gethostname():
        return bool(holder)
    try:
        os.kill(int(holder["process"]), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return int(holder["process"]) != os.getpid()
