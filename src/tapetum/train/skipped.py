"""The images that a run left out: one line each in `skipped.jsonl`, there as soon as it is known."""

import contextlib
import json
from pathlib import Path

from tapetum.base.console import warn
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
                new: dict[str, dict] = {}
                for row in rows:
                    if row["path"] not in self._known:
                        new.setdefault(row["path"], row)
                file.write(b"".join(json.dumps(row).encode() + b"\n" for row in new.values()))
                file.flush()
                self._read = file.tell()
                self._known |= new.keys()
        except OSError as error:
            raise TapetumError(f"cannot write {self.path}: {error.strerror or error}.") from error

    def note(self, row: dict[str, str]) -> None:
        """Add one while a run lasts, which a full disk does not stop: `add` is called again at the end."""
        try:
            self.add([row])
        except TapetumError as error:
            warn(f"{error} Left out: {row['path']} ({row['reason']}).")

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
