"""What a person sees while something runs: lines, progress with rate and time left, small tables."""

import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from tapetum.base.harmless import outward

json_mode = False  # with --json, stdout belongs to the one JSON answer and people read stderr


def _stream():
    return sys.stderr if json_mode else sys.stdout


def say(text: str = "") -> None:
    """Print one line for people."""
    print(outward(text, keep="\n\t"), file=_stream(), flush=True)


def warn(text: str) -> None:
    """Print one line that deserves attention."""
    print(f"warning: {outward(text)}", file=sys.stderr, flush=True)


def fail(text: str) -> None:
    """Print the one line that says why a command ends."""
    print(f"error: {outward(text)}", file=sys.stderr)


def duration(seconds: float) -> str:
    """Seconds in a form that a person reads at once: 42s, 7m05s, 3h12m, 2d04h."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02d}h"


def size(count: float) -> str:
    """Bytes in a form that a person reads at once: 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class Progress:
    """Counts towards `total`: one moving line on a terminal, a plain line now and then elsewhere.

    Use as a context manager; call `advance(n, **numbers)` with what else to show.
    """

    def __init__(self, total: int, what: str, unit: str = "images", done: int = 0, every: float = 20.0):
        self.total, self.what, self.unit = total, what, unit
        self.done, self.began, self.start = done, done, time.monotonic()
        self.live = _stream().isatty()
        self.every = 0.2 if self.live else every
        self.last = self.start
        self.width = 0

    def __enter__(self) -> "Progress":
        return self

    def advance(self, n: int = 1, **numbers: object) -> None:
        self.done += n
        if (now := time.monotonic()) - self.last >= self.every:
            self.last = now
            self._show(now, numbers)

    def _show(self, now: float, numbers: dict[str, object]) -> None:
        rate = (self.done - self.began) / max(now - self.start, 1e-9)
        left = duration((self.total - self.done) / rate) if rate else "?"
        parts = [f"{self.what}: {self.done:,}/{self.total:,} {self.unit}", f"{rate:,.0f}/s", f"{left} left"]
        parts += [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in numbers.items()]
        line = outward("  ".join(parts))
        if self.live:
            print("\r" + line.ljust(self.width), end="", file=_stream(), flush=True)
            self.width = len(line)
        else:
            say(line)

    def __exit__(self, *_: object) -> None:
        if self.live and self.width:
            print("\r" + " " * self.width, end="\r", file=_stream(), flush=True)


def table(rows: Iterable[Sequence[Any]], columns: Sequence[str], title: str | None = None) -> None:
    """Print a small table; numbers stand right, words left. What stands in it is text, never markup."""
    from rich.console import Console
    from rich.table import Table

    stream = _stream()
    rows = [[f"{c:.4g}" if isinstance(c, float) else outward(str(c)) for c in row] for row in rows]
    out = Table(
        title=title and outward(title), title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    for i, name in enumerate(columns):
        cells = [row[i] for row in rows if row[i]]
        number = cells and all(cell.lstrip("+-~")[:1].isdigit() for cell in cells)
        out.add_column(outward(name), justify="right" if number else "left", overflow="fold")
    for row in rows:
        out.add_row(*row)
    width = None if stream.isatty() else 120
    Console(file=stream, width=width, highlight=False, markup=False, emoji=False).print(out)
