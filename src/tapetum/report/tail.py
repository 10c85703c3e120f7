"""A growing file of JSON lines: read on from where it was left, damaged lines counted and left out."""

from pathlib import Path
from typing import Any

from tapetum.base.files import parsed


def is_number(value: Any) -> bool:
    """Whether it is a finite number, of a size with which one can still reckon."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300


def within(path: Path) -> bool:
    """Whether a file lies in its folder, or only a link to it does."""
    return not path.is_symlink() or path.resolve().is_relative_to(path.parent.resolve())


class Tail:
    """The lines of a file that may not be there yet, may grow, or become another.

    Args:
        path: of the file.
        wanted: names that a line must have; `step` must be a number.
    """

    def __init__(self, path: Path, wanted: tuple[str, ...] = ()):
        self.path, self.wanted = path, wanted
        self.rows: list[dict[str, Any]] = []
        self.damaged = 0
        self.begun = 0  # how often it was another file, so that reading began anew
        self._at, self._file = 0, 0

    def refresh(self) -> None:
        """Read what is new; a line that is being written waits. Raises OSError."""
        found = self.path.stat() if self.path.is_file() and within(self.path) else None
        file, size = (found.st_ino, found.st_size) if found else (0, 0)
        if file != self._file or size < self._at:  # a run that goes on writes it anew
            self.rows, self.damaged, self._at, self._file = [], 0, 0, file
            self.begun += 1
        if size == self._at:
            return
        with self.path.open("rb") as opened:
            opened.seek(self._at)
            *whole, last = opened.read().split(b"\n")
        for line in whole:
            self._at += len(line) + 1
            row = self._row(line)
            if row is not None:
                self.rows.append(row)
            elif line.strip():
                self.damaged += 1
        if (row := self._row(last)) is not None:  # complete, only its end is missing
            self._at += len(last)
            self.rows.append(row)

    def _row(self, line: bytes) -> dict[str, Any] | None:
        try:
            row = parsed(line)
        except ValueError:
            return None
        whole = isinstance(row, dict) and all(name in row for name in self.wanted)
        return row if whole and is_number(row.get("step", 0)) else None
