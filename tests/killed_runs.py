"""Runs in processes of their own that are killed, and what tells two runs apart; for tests and benchmarks."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from run_files import contents, rows
from tapetum.base.files import read_lines

# Where writing a checkpoint may die: with a file cut off, before or after the facts are written, when it has
# got its name, and while an older one is removed.
PLACES = (
    "method.safetensors",
    "optimizer.safetensors",
    "before state.json",
    "after state.json",
    "named",
    "old",
)

# The command line in a process of its own; STREAM=1 makes it read images ahead instead of holding them, and
# DIE=4 kills it in the midst of writing the checkpoint of step 4, with one file whole and one begun. More
# generally DIE="4,PLACE,SHARE", where SHARE of the file that is cut off is there.
RUNNER = """
import os, shutil, signal, sys
from tapetum.data import canvas
from tapetum.train import checkpoint

if os.environ.get("STREAM"):
    canvas.free_memory = lambda: 0
if dying := os.environ.get("DIE"):
    step, place, share = [*dying.split(","), "optimizer.safetensors", "0.5"][:3]
    name = f"step_{int(step):08d}"
    write, write_json, sync, rmtree = (
        checkpoint._write, checkpoint.write_json, checkpoint.sync, shutil.rmtree
    )

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def partly(path, tensors):
        write(path, tensors)
        if path.parent.name == f".{name}.part" and path.name == place:
            os.truncate(path, int(path.stat().st_size * float(share)))
            die()

    def facts(path, value):
        here = path.parent.name == f".{name}.part"
        if here and place == "before state.json":
            die()
        write_json(path, value)
        if here and place == "after state.json":
            die()

    def named(path):
        if (path / name).exists() and place == "named":
            die()
        sync(path)

    def removing(path, *rest, **options):
        if (path.parent / name).exists() and path.name.startswith("step_") and place == "old":
            sorted(path.iterdir())[0].unlink()
            die()
        rmtree(path, *rest, **options)

    checkpoint._write, checkpoint.write_json, checkpoint.sync, shutil.rmtree = partly, facts, named, removing

from tapetum.cli import main

if __name__ == "__main__":
    sys.exit(main())
"""


def start(*arguments: object, how: Sequence[str] = ("-c", RUNNER), **environment: object) -> subprocess.Popen:
    """Begin `tapetum pretrain ...` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, *how, "pretrain", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **{n: str(v) for n, v in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen, seconds: float = 300) -> tuple[int, str]:
    """Its exit code and all that it said, which is no traceback; it does not outlive these seconds."""
    try:
        out, error = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert "Traceback" not in error, error
    return process.returncode, out + error


def noted(run: Path, step: int, process: subprocess.Popen) -> bool:
    """Wait until a run has noted some step; False where it ended before."""
    while process.poll() is None:
        metrics = run / "metrics.jsonl"
        if metrics.exists() and any(row["step"] >= step for row in read_lines(metrics)):
            return True
        time.sleep(0.002)
    return False


def differences(run: Path, wanted: Path) -> list[str]:
    """What two runs do not share bit for bit: weights, teacher, optimiser, numbers, what was left out."""
    one, other = contents(run), contents(wanted)
    odd = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    odd += ["metrics.jsonl"] * (rows(run) != rows(wanted))
    left_out = [read_lines(folder / "skipped.jsonl") for folder in (run, wanted)]
    return odd + ["skipped.jsonl"] * (left_out[0] != left_out[1])
