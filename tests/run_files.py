"""What runs have left in their folders, without what tells time."""

from pathlib import Path

from tapetum.base.files import read_lines
from tapetum.train import run as training
from tapetum.train.health import watch

CLOCK = {*training.CLOCK, *watch.CLOCK}


def rows(run: Path, file: str = "metrics.jsonl") -> list[dict]:
    """The lines of a file of a run, without its clock."""
    return [{n: v for n, v in row.items() if n not in CLOCK} for row in read_lines(run / file)]


def contents(run: Path) -> dict[str, bytes]:
    """Every tensor that a run has left, and the facts beside them."""
    found = [*run.glob("checkpoints/step_*/*"), run / "encoder.safetensors"]
    return {str(path.relative_to(run)): path.read_bytes() for path in found}
