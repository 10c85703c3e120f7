"""The store of features as a whole: what lies in it, how much may, and what goes first."""

import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapetum.base.console import duration, say, size, table
from tapetum.base.errors import TapetumError
from tapetum.base.files import cache_dir, lock
from tapetum.features.shelf import facts

LIMIT = "50GB"  # unless TAPETUM_CACHE_LIMIT says otherwise
_UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}


@dataclass(frozen=True)
class Entry:
    """One kind of features: its folder, what it says of itself, its bytes and when it was last used."""

    folder: Path
    about: dict[str, Any]
    bytes: int
    used: float


def folder() -> Path:
    """Where features lie."""
    return cache_dir() / "features"


def entries() -> list[Entry]:
    """All that the store holds, what was used last first."""
    found = []
    for place in folder().iterdir() if folder().is_dir() else []:
        if place.is_dir() and (about := facts(place)) is not None:
            held = sum(file.stat().st_size for file in place.iterdir() if file.is_file())
            found.append(Entry(place, about, held, place.stat().st_mtime))
    return sorted(found, key=lambda entry: -entry.used)


def parsed(text: str, what: str) -> float:
    """Bytes of a text such as 20GB. Raises TapetumError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?b?)", text.strip().lower())
    if (
        not match
        or (unit := match[2] if match[2].endswith("b") or not match[2] else match[2] + "b") not in _UNITS
    ):
        raise TapetumError(f"{what} is {text!r}; it must be a size such as 500MB or 20GB.")
    return float(match[1]) * _UNITS[unit]


def allowed() -> float:
    """The bytes that the store may take."""
    return parsed(os.environ.get("TAPETUM_CACHE_LIMIT") or LIMIT, "TAPETUM_CACHE_LIMIT")


def keep_within(most: float, used: Path | None = None) -> None:
    """Remove what was not used for longest until the store takes at most so many bytes; `used` stays."""
    found = entries()
    total = sum(entry.bytes for entry in found)
    for entry in reversed(found):
        if total <= most:
            return
        if entry.folder != used and remove(entry):
            total -= entry.bytes
            say(f"the store of features is full ({size(most)}): removed {size(entry.bytes)} of {name(entry)}")


def remove(entry: Entry) -> bool:
    """Remove one kind of features, unless a process is filling it; arrays that are mapped stay whole."""
    try:
        with (entry.folder / "lock").open("a") as handle:
            if lock(handle, wait=False):
                shutil.rmtree(entry.folder)
                return True
    except OSError:  # of another user
        pass
    return False


def tend(
    *, clear: bool = False, older: float | None = None, limit: str | None = None
) -> list[dict[str, Any]]:
    """List what the store holds, or remove what is asked for; returns what is left, or what would be."""
    found = entries()
    if limit is not None:
        keep_within(parsed(limit, "--limit"))
    if clear or (older is not None and limit is None):
        if older is not None and not clear:
            raise TapetumError("--older says what to clear: say --clear too.")
        gone = [e for e in found if (older is None or time.time() - e.used >= 86400 * older) and remove(e)]
        say(f"removed {size(sum(e.bytes for e in gone))} of features of {len(gone)} kinds")
    left = entries()
    rows = [(name(e), size(e.bytes), ago(e.used), e.folder.name) for e in left]
    if rows:
        table(rows, ("features", "size", "last used", "folder"))
    say(f"{size(sum(e.bytes for e in left))} of at most {size(allowed())} in {folder()}")
    return [{"folder": str(e.folder), "bytes": e.bytes, "used": e.used, **e.about} for e in left]


def ago(moment: float) -> str:
    """How long ago, for people."""
    return f"{duration(max(0, time.time() - moment))} ago"


def name(entry: Entry) -> str:
    """Of whom and what these features are, for people."""
    about, view = _part(entry.about, "subject"), _part(entry.about, "view")
    encoder = _part(about, "encoder")
    model = encoder.get("model") or encoder.get("module") or "?"
    weights = str(about.get("weights", ""))[:8]
    parts = [model, weights, entry.about.get("out", ""), about.get("precision", "")]
    parts += [f"layer {about['layer']}"] if about.get("layer", "last") != "last" else []
    parts += [", ".join(f"{k} {v}" for k, v in view.items())]
    return " ".join(str(part) for part in parts if part)


def _part(facts: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of facts that somebody else may have written."""
    found = facts.get(name)
    return found if isinstance(found, dict) else {}
