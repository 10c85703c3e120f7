"""Pages of runs for the dashboard: made one after the other, and anew when a run went on."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapetum.report.page import Page
from tapetum.report.watched import Watched

KEPT = 60  # seconds for which a page is shown although its run went on
PATIENCE = 2  # seconds after which a page that waits asks again
LONGEST = 1800  # seconds that a page may take

Made = tuple[bytes, dict[str, str]]  # a page, and headers


@dataclass
class Making:
    """A page that is being made, or was: of which state of the run, by which process, from when to when."""

    stamp: Any
    process: subprocess.Popen
    began: float
    ended: float | None = None
    late: bool = False  # ended because it took too long


class Reports:
    """Pages by `tapetum report`, in a process of its own: the dashboard answers meanwhile, and ends at once.

    Args:
        work: the folder that holds them; nothing is written to a run.
    """

    def __init__(self, work: Path):
        self.work = work
        self.making: dict[str, Making] = {}
        self.lock = threading.Lock()

    def page(self, run: Watched) -> Made:
        """The page of a run, or one that waits for it."""
        with self.lock:
            for one in self.making.values():
                _look_after(one)
            stamp, own = run.reader.stamp(), self.making.get(run.id)
            if own and own.ended and own.stamp != stamp and time.monotonic() - own.ended > KEPT:
                own = None
            if own and own.ended:
                return self._finished(run, own)
            if own:
                return waiting(
                    run, f"It has been in the making for {time.monotonic() - own.began:.0f} seconds"
                )
            if any(one.ended is None for one in self.making.values()):
                return waiting(run, "The page of another run is made first")
            self.making[run.id] = Making(stamp, self._begin(run), time.monotonic())
            return waiting(run, "It is being made, which takes some seconds, the first time perhaps minutes")

    def close(self) -> None:
        """End what is being made."""
        for one in self.making.values():
            one.process.kill()
            one.process.wait()

    def _begin(self, run: Watched) -> subprocess.Popen:
        command = [sys.executable, "-P", "-m", "tapetum", "report"]  # -P: no code from the folder we are in
        command += [str(run.folder.absolute()), "--out", str(self._file(run)), "--overwrite", "--json"]
        nothing = subprocess.DEVNULL
        with self._said(run).open("w") as said:
            return subprocess.Popen(command, stdin=nothing, stdout=said, stderr=nothing)

    def _finished(self, run: Watched, own: Making) -> Made:
        if own.process.returncode == 0:
            return self._file(run).read_bytes(), {}
        del self.making[run.id]  # who asks again has it tried again
        try:
            why = str(json.loads(self._said(run).read_text())["error"])
        except (OSError, ValueError, KeyError, TypeError):
            why = "its process ended without a word"
        if own.late:
            why = f"it took more than {LONGEST // 60} minutes, and was ended"
        return about(run, f"Its page cannot be made: {why}"), {}

    def _file(self, run: Watched) -> Path:
        return self.work / f"{run.id}.html"

    def _said(self, run: Watched) -> Path:
        return self.work / f"{run.id}.json"


def _look_after(one: Making) -> None:
    """Note that a page is made; one that hangs is ended, since others wait for it."""
    if one.ended is not None:
        return
    if one.process.poll() is None and time.monotonic() - one.began > LONGEST:
        one.late = True
        one.process.kill()
        one.process.wait()
    if one.process.poll() is not None:
        one.ended = time.monotonic()


def waiting(run: Watched, why: str) -> Made:
    return about(run, f"{why}; it appears here by itself."), {"Refresh": str(PATIENCE)}


def about(run: Watched, sentence: str) -> bytes:
    return Page(f"Run {run.name}", [sentence], []).html().encode()
