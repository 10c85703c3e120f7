"""What do data and views cost a training step? Ours beside the bare step, and beside lightly's example.

    python -m benchmarks.step                   # all parts, some minutes; the rows are kept
    python -m benchmarks.step --only lightly    # one of them: step, lightly, gpu-step
    python -m benchmarks.step --dry             # only print

Each contender trains in a process of its own and waits while the others have their turn. Needs lightly
(`pip install '.[bench]'`), and cifar10.zip in the folder that TAPETUM_DATA names. The machine must be idle.
"""

import argparse
import contextlib
import tempfile
from pathlib import Path

import torch

from benchmarks import rows, speed, trainers
from benchmarks.views import jpegs
from tapetum.data.canvas import cores

RECIPE = rows.ROOT / "recipes" / "ten-minutes" / "simclr.yaml"
PACKAGES = ("torch", "timm", "lightly", "torchvision")
WORKERS = 8  # of lightly's example
COPIES = 8  # of each photograph, where they are too few for a batch


def small(images: int | None, steps: int, batch: int) -> dict:
    """Our settings for CIFAR-10."""
    return {
        "data": f"{rows.data('cifar10.zip')}/train",
        "images": images,
        "threads": cores(),
        "steps": steps,
        "recipe": RECIPE,
        "batch_size": batch,
        "precision": "bf16",
        "devices": "cpu",
    }


def beside_ready(settings: dict, rounds: int) -> tuple[dict[str, list[float]], str]:
    """With data and views, and on ready-made tensors."""
    with trainers.Apart(trainers.ours, **settings) as us:
        return rows.in_turn({speed.OURS: us.measure("data"), speed.READY: us.measure("ready")}, rounds), ""


def beside_lightly(settings: dict, rounds: int) -> tuple[dict[str, list[float]], str]:
    """Ours, and lightly's example as it is and tuned."""
    steps, batch = settings["steps"], settings["batch_size"]
    theirs = {"recipe": RECIPE, "batch": batch, "steps": steps, "threads": cores()}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        trainers.unpacked(settings["data"], 2 * (WORKERS + 1 + max(WORKERS, steps)) * batch, Path(folder))
        us = stack.enter_context(trainers.Apart(trainers.ours, **settings))
        plain, tuned = (
            stack.enter_context(trainers.Apart(trainers.lightly, folder=folder, workers=workers, **theirs))
            for workers in (WORKERS, None)
        )
        measures = {
            speed.OURS: us.measure("data"),
            "lightly's example": plain.measure("data"),
            "lightly's example, tuned": tuned.measure("data"),
        }
        return rows.in_turn(measures, rounds), f"As it is: {plain.settings}; tuned: {tuned.settings}"


def on_gpu(steps: int, batch: int, rounds: int) -> tuple[dict[str, list[float]], str]:
    """ResNet-50 at 224 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        for file in jpegs(Path(folder), 250):
            for copy in range(1, COPIES):
                file.with_stem(f"{file.stem}-{copy}").write_bytes(file.read_bytes())
        settings = {"data": folder, "images": None, "threads": cores(), "steps": steps, "recipe": None}
        own = {"encoder": "resnet50", "image_size": 224, "precision": "bf16", "devices": 1, "epochs": 1}
        return beside_ready({**settings, **own, "batch_size": batch}, rounds)


def measure(part: str, asked: argparse.Namespace) -> None:
    """One part: measure, show, keep."""
    if part == "gpu-step":
        rates, settings = on_gpu(asked.steps, asked.batch, asked.rounds)
    else:
        race = beside_ready if part == "step" else beside_lightly
        rates, settings = race(small(asked.images, asked.steps, asked.batch), asked.rounds)
    torch.set_num_threads(cores())  # as in the processes that were measured
    row = {"task": part, "rates": rates, "missing": {}, "settings": settings, **rows.facts(PACKAGES)}
    if part == "gpu-step":
        row["machine"] += f", {torch.cuda.get_device_name()}"
    print("\n".join([f"\n{speed.TASKS[part].title}", *speed.table(part, row), settings]), flush=True)
    rows.finish(asked, row, speed.keep)


def main(arguments: list[str] | None = None) -> None:
    """Measure the parts that are asked for."""
    parts = [name for name, task in speed.TASKS.items() if task.command == "step"]
    parser = rows.measuring(__doc__, parts, rounds=5)
    parser.add_argument("--images", type=int, help="how many images of CIFAR-10 ours holds [all]")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8, help="that a contender trains in a round")
    asked = parser.parse_args(arguments)
    for part in rows.chosen(asked.only, parts):
        if part == "gpu-step" and not torch.cuda.is_available():
            print("\ngpu-step: there is no GPU here, so nothing was measured on one.")
        elif part == "lightly" and rows.version("lightly") is None:
            print("\nlightly: it is not installed, so nothing was measured beside it.")
        else:
            measure(part, asked)


if __name__ == "__main__":
    main()
