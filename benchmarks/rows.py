"""What benchmarks share: where data and results lie, what a row says of itself, and measuring in turn."""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from statistics import median

import torch

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def data(name: str) -> Path:
    """A file of the folder of real data."""
    folder = os.environ.get("TAPETUM_DATA")
    if not folder:
        sys.exit(f"error: set TAPETUM_DATA to the folder that holds {name}.")
    return Path(folder) / name


def commit() -> str:
    """The commit that runs, marked when what takes part in a run differs from it."""

    def git(*words: str) -> str:
        said = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return said.stdout.strip()

    parts = ("src", "recipes", "constraints.txt", "benchmarks/*.py")
    changed = git("status", "--porcelain", "--", *parts)
    return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")


def machine() -> str:
    """The processor and how much of it there is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor()
    )
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


def fingerprint(*folders: str) -> str:
    """Of the package's code in some of its folders: a row holds as long as it is the same."""
    files = sorted(file for folder in folders for file in (ROOT / "src" / "tapetum" / folder).rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def version(package: str) -> str | None:
    """Of an installed package, None where it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def facts(packages: Iterable[str] = ()) -> dict:
    """What every row says of itself."""
    versions = {name: found for name in packages if (found := version(name))}
    said = {"commit": commit(), "machine": machine(), "date": time.strftime("%Y-%m-%d")}
    return said | ({"versions": versions} if versions else {})


def kept(file: Path) -> list[dict]:
    """The rows of a file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def keep(file: Path, row: dict) -> None:
    """Add a row to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as handle:
        handle.write(json.dumps(row) + "\n")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A benchmark's flags, with what it measures as the help that it prints."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def measuring(doc: str | None, parts: Iterable[str] = (), rounds: int = 0) -> argparse.ArgumentParser:
    """The flags of a benchmark that adds rows each time it is asked: `finish` follows them."""
    flags = parser(doc)
    if parts:
        flags.add_argument("--only", default=",".join(parts), help="parts, separated by commas [all]")
    if rounds:
        flags.add_argument("--rounds", type=int, default=rounds, help=f"in each all are measured [{rounds}]")
    flags.add_argument("--dry", action="store_true", help="keep no rows")
    flags.add_argument("--note", help="what a reader must know, such as what else ran; kept with the rows")
    return flags


def finish(asked: argparse.Namespace, row: dict, keep: Callable[[dict], None]) -> None:
    """Keep a row, with its note, unless that was not wanted."""
    if not asked.dry:
        keep(row | ({"note": asked.note} if asked.note else {}))


def in_turn(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each contender measures in each round, A B C A B C: what else the machine does falls on all. The
    first measurement of each only warms it up and is left out."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, measure in contenders.items():
            value = measure()
            if turn:
                found[name].append(round(value, 2))
    return found


def ratios(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """a over b in each round: median, least and most."""
    each = [x / y for x, y in zip(a, b)]
    return median(each), min(each), max(each)


def chosen(only: str, parts: Iterable[str]) -> list[str]:
    """The parts of a benchmark that were asked for, separated by commas; a wrong one ends the program."""
    wanted = only.split(",")
    if wrong := [part for part in wanted if part not in parts]:
        sys.exit(f"error: there is no part {wrong[0]!r}; there are {', '.join(parts)}.")
    return wanted
