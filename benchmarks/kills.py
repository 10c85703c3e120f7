"""Runs killed at random, resumed and compared bit by bit with runs that never were; and what checkpoints
cost.

    python -m benchmarks.kills                       # five methods at twenty points each, then the cost
    python -m benchmarks.kills --only simclr,cost    # some of it
    python -m benchmarks.kills --table               # only rewrite docs/exactness.md

Small networks on 48 made images, one of which is damaged: 24 steps, six an epoch, a checkpoint every third.
Half of the kills come at a random moment after a random step, half at a random place in writing a random
checkpoint. Each run begins and goes on with its own number of reading threads, images held in memory or
read ahead. What is done stays done, until the code of training changes.
"""

import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks import exactness, rows
from tapetum.base.files import read_lines
from tapetum.methods import find
from tapetum.train import checkpoint, config, sandbox
from tapetum.verbs import pretrain

sys.path.append(str(rows.ROOT / "tests"))
from killed_runs import PLACES, differences, ended, noted, start

METHODS = ("simclr", "mocov2", "swav", "dino", "mae")
POINTS, STEPS, EVERY = 20, 24, 3
COMMON: dict[str, Any] = {
    "image_size": 32,
    "batch_size": 8,
    "steps": STEPS,
    "checkpoint_steps": EVERY,
    "log_every": 1,
    "eval_every": 1,
    "devices": "cpu",
}
RESNET = {"name": "resnet10_w32", "channels": [8, 16, 32, 64], "drop_path_rate": 0.2}
VIT = {"name": "vit_mini", "embed_dim": 64, "depth": 2, "num_heads": 2}
PATIENCE = 3600  # seconds for a run of seconds, beside whatever else the machine does
HALF = ("mocov2", "dino", "mae")  # these train in bf16


def settings(name: str) -> dict[str, Any]:
    """A run of a small network, as `pretrain --config` takes it."""
    kind = find(name)
    return {
        **COMMON,
        "method": {"name": name, **sandbox.small_settings(kind)},
        "encoder": VIT if kind.needs == "tokens" else RESNET,
        "precision": "bf16" if name in HALF else "fp32",
    }


def images(folder: Path) -> Path:
    """48 images, one of them cut off."""
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for i, pixels in enumerate(sandbox.easy_images(48)[0]):
            Image.fromarray(pixels).save(part / f"{i:03}.png")
        whole = (part / "020.png").read_bytes()
        (part / "020.png").write_bytes(whole[: len(whole) // 2])
        part.rename(folder)
    return folder


def went(*arguments: object, **environment: object) -> None:
    """Run to the end; raises RuntimeError where it fails."""
    code, said = ended(start(*arguments, **environment), PATIENCE)
    if code:
        raise RuntimeError(f"the run ended with {code}: {said}")


def unkilled(name: str, folder: Path) -> Path:
    """The run of a method that nothing disturbs."""
    run, written = folder / name / "whole", folder / name / "settings.yaml"
    if not (run / "encoder.safetensors").exists():
        shutil.rmtree(run, ignore_errors=True)
        written.parent.mkdir(parents=True, exist_ok=True)
        config.write(written, config.flattened(settings(name)))
        went(images(folder / "images"), "--out", run, "--config", written)
    return run


def killed(name: str, point: int, folder: Path) -> dict[str, Any]:
    """Kill a run at one point, go on with it, and say in what it differs from the run that was not killed."""
    rng, whole, run = random.Random(f"{name} {point}"), unkilled(name, folder), folder / name / str(point)
    shutil.rmtree(run, ignore_errors=True)
    command = [images(folder / "images"), "--out", run, "--resume", "auto"]
    command += ["--config", folder / name / "settings.yaml", "--workers"]
    streams = {"STREAM": 1} if rng.random() < 0.5 else {}
    if point % 2:
        step, place, share = rng.randrange(EVERY, STEPS + 1, EVERY), rng.choice(PLACES), rng.random()
        step = max(step, 3 * EVERY) if place == "old" else step  # two older ones are kept
        at = f"writing the checkpoint of step {step}: {place}"
        at += f", {share:.0%} of it" if place.endswith(".safetensors") else ""
        process = start(*command, rng.randrange(3), **streams, DIE=f"{step},{place},{share}")
    else:
        clock = [row["time"] for row in read_lines(whole / "metrics.jsonl") if "time" in row]
        step, wait = rng.randrange(STEPS - 1), rng.random() * (clock[-1] - clock[0]) / len(clock)
        at = f"{1000 * wait:.0f} ms after step {step}"
        process = start(*command, rng.randrange(3), **streams)
        noted(run, step, process)
        time.sleep(wait)
        process.kill()
    code, said = ended(process, PATIENCE)
    if code != -9:
        raise RuntimeError(f"{name} was not killed {at}, but ended with {code}: {said}")
    newest = checkpoint.newest(run / "checkpoints")
    went(*command, rng.randrange(3), **({} if streams else {"STREAM": 1}))
    facts = {"killed": at, "went_on_at": newest[1]["step"] if newest else 0}
    return {"row": name, "point": point, **facts, "differs": differences(run, whole)}


def cost(
    folder: Path, count: int = 8192, batch: int = 128, epochs: int = 3, rounds: int = 3
) -> dict[str, Any]:
    """Seconds of a whole run with a checkpoint each epoch, and of one with a single checkpoint at its end."""
    data = sandbox.easy_images(count)[0]
    saved: list[float] = []

    def seconds(every: int) -> float:
        out = folder / "cost"
        shutil.rmtree(out, ignore_errors=True)
        began = time.monotonic()
        pretrain(data, out=str(out), epochs=epochs, batch_size=batch, devices="cpu", checkpoint_steps=every)
        return time.monotonic() - began

    save = checkpoint.save

    def timed(*given: Any, **named: Any) -> Path:
        began = time.monotonic()
        path = save(*given, **named)
        saved.append(time.monotonic() - began)
        return path

    checkpoint.save = timed
    try:
        contenders = {"with": lambda: seconds(count // batch), "without": lambda: seconds(10**9)}
        found = rows.in_turn(contenders, rounds)
    finally:
        checkpoint.save = save
    size = sum(
        file.stat().st_size for file in checkpoint.found(folder / "cost" / "checkpoints")[-1].iterdir()
    )
    ratio, least, most = (round(x, 4) for x in rows.ratios(found["with"], found["without"]))
    facts = {"images": count, "epochs": epochs, "megabytes": round(size / 1e6, 1)}
    facts |= {"seconds_each": round(sorted(saved)[len(saved) // 2], 3)}
    return {"row": "cost", "point": 0, **facts, **found, "ratio": ratio, "least": least, "most": most}


def main(given: list[str] | None = None) -> None:
    """Do what is asked and not yet done, point by point over the methods."""
    parser = rows.parser(__doc__)
    parser.add_argument("--only", help=f"separated by commas, of: {', '.join(METHODS)}, cost")
    parser.add_argument("--points", type=int, default=POINTS, help="kills of each method [20]")
    parser.add_argument("--table", action="store_true", help="only rewrite docs/exactness.md")
    asked = parser.parse_args(given)
    wanted = rows.chosen(asked.only, [*METHODS, "cost"]) if asked.only else [*METHODS, "cost"]
    torch.set_num_threads(1)
    code = rows.fingerprint("base", "data", "methods", "parts", "train", "views")
    folder = rows.ROOT / "runs" / "kills" / code
    jobs = [(name, point) for point in range(asked.points) for name in wanted if name != "cost"]
    jobs += [("cost", 0)] if "cost" in wanted else []
    for name, point in [] if asked.table else jobs:
        done = {(row["row"], row["point"]) for row in rows.kept(exactness.KILLS) if row["code"] == code}
        if (name, point) not in done:
            found = cost(folder) if name == "cost" else killed(name, point, folder)
            rows.keep(exactness.KILLS, {**found, "code": code, **rows.facts()})
            print(found, flush=True)
    exactness.write()


if __name__ == "__main__":
    main()
