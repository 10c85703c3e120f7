"""Runs that take seconds, and folders of runs written by hand, which tests share."""

import json
import os
import time
from pathlib import Path
from typing import Any

SMALL: dict[str, Any] = {
    "method": "simclr",
    "method_settings": {"hidden": 16, "dim": 8},
    "encoder": "resnet10_w32",
    "encoder_settings": {"channels": [8, 16, 32, 64]},
    "image_size": 32,
    "batch_size": 16,
    "log_every": 1,
    "precision": "fp32",
}

CONFIG = """data: photos/train
method:
  name: {method}
  temperature: {temperature}
encoder:
  name: resnet10_w32
weights: none
image_size: 32
epochs: 10
steps: 1000
batch_size: 64
seed: 0
"""


def by_hand(
    folder: Path,
    rows: int = 20,
    *,
    method: str = "simclr",
    temperature: float = 0.1,
    labels: bool = True,
    verdict: str = "learning",
    silent: float = 0.0,
) -> Path:
    """A run's folder as training would have written it: a line each ten steps, a look at its health each
    fifty; the last was written `silent` seconds ago."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG.format(method=method, temperature=temperature))
    write_rows(folder, 0, rows, labels)
    looks = [{"step": s, "rank": 9.0, "spread": 0.5, "verdict": "beginning" if s < 50 else verdict, "why": ""}
             for s in range(0, 10 * rows, 50)]  # fmt: skip
    (folder / "health.jsonl").write_text("".join(json.dumps(look) + "\n" for look in looks))
    for file in folder.iterdir():
        os.utime(file, (time.time() - silent,) * 2)
    return folder


def write_rows(folder: Path, first: int, last: int, labels: bool = True) -> None:
    """Lines of metrics.jsonl, added to those that are there."""
    with (folder / "metrics.jsonl").open("a") as file:
        for i in range(first, last):
            look = {"rank": 20.0 + i} | ({"knn": 0.2 + 0.001 * i} if labels else {})
            row = {"step": 10 * i, "epoch": 0.1 * i} | (
                look if i % 5 == 0 else {"loss": 5 / (1 + i), "time": i}
            )
            file.write(json.dumps(row) + "\n")


def typed(settings: dict[str, Any]) -> list[str]:
    """Settings of tapetum.pretrain as they are typed on the command line."""
    words: list[str] = []
    for name, value in settings.items():
        if name.endswith("_settings"):
            group = name.removesuffix("_settings")
            for inner, v in value.items():
                words += [f"--{group}.{inner}", ",".join(map(str, v)) if isinstance(v, list) else str(v)]
        else:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words
