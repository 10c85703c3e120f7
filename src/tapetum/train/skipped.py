"""The images that a run left out: one line each in `skipped.jsonl`, there as soon as it is known."""

import contextlib
import json
from pathlib import Path

from tapetum.base.errors import TapetumError
from tapetum.base.files import lock


class Skipped:
    """The file, to which any number of threads and processes add, each image once."""

    def __init__(self, path: Path):
        self.path = path
        self._known: set[str] = set()
        self._read = 0  # bytes of the file that are known

    def add(self, rows: list[dict[str, str]]) -> None:
        """Add these {"path", "reason"} unless their paths are there. Raises TapetumError on a full disk."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                lock(file)
                self._catch_up(file)
                for row in rows:
                    if row["path"] not in self._known:
                        self._known.add(row["path"])
                        file.write(json.dumps(row).encode() + b"\n")
                file.flush()
                self._read = file.tell()
        except OSError as error:
            raise TapetumError(f"cannot write {self.path}: {error.strerror or error}.") from error

    def _catch_up(self, file) -> None:
        """Read what others have added, and drop half a line that somebody was killed in."""
        file.seek(self._read)
        for line in file:
            if not line.endswith(b"\n"):
                file.truncate(self._read)
                break
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self._known.add(json.loads(line)["path"])
            self._read += len(line)
