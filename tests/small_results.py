"""What the tests of comparing share: results made by hand, written as `evaluate` writes them."""

from pathlib import Path
from typing import Any

import numpy as np

from tapetum.evaluate.answers import Answers
from tapetum.evaluate.result import Result, add_results

COST = {"parameters": 1_250_000, "flops": 168_000_000, "dim": 256}


def said(share: float, seed: int, n: int = 300, draws: int = 1) -> Answers:
    """Answers of which about `share` are right; equal seeds miss the same images first."""
    truth = np.random.default_rng(99).integers(0, 4, n)
    u = np.random.default_rng(seed).random((draws, n))
    return Answers("accuracy", np.where(u < share, truth, (truth + 1) % 4), truth, np.arange(n))


def result(
    answers: Answers | None,
    weights: str,
    row: str = "encoder",
    name: str = "knn",
    head: dict[str, Any] | None = None,
    data: str = "abc",
    value: float | None = None,
    **about: str,
) -> Result:
    """A result that stands on these answers, or on nothing but its value."""
    metric = answers.metric if answers else "rank"
    found = answers.summary() if answers else (value, 0.1, (value - 0.2, value + 0.2), "by hand")
    protocol = {"name": name, "version": 1, "metric": metric, "split": "as given"}
    protocol |= {"train": {"data": data}, "test": {"data": data}, "head": head or {}, "seeds": [0]}
    return Result(
        f"{name} {metric}", found[0], found[1], found[2], found[3], 300, [0], protocol,
        {"encoder": {"model": weights}, "weights": weights, "precision": "float32"}, row,
        cost=COST, about={"encoder": weights, **about}, answers=answers,
    )  # fmt: skip


def write(file: Path, *results: Result) -> Path:
    """Results and, beside them, their answers."""
    add_results(file, results)
    return file


def run(folder: Path, *results: Result, minutes: float = 0) -> Path:
    """A run with results."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("method: simclr\n")
    if minutes:
        line = '{"step": %d, "time": %f, "memory": %d}\n'
        half = 60 * minutes / 2  # it was resumed in the middle, and its clock began again
        (folder / "metrics.jsonl").write_text(
            line % (1, half, 2e9) + line % (2, half / 3, 1e9) + line % (3, half, 1e9)
        )
    write(folder / "results.json", *results)
    return folder
