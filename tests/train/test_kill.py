"""Killed at any moment and gone on with, a run ends bit-equal to one that was never killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tapetum
from tapetum.base.files import read_lines
from tapetum.train.run import CLOCK
from tapetum.train.sandbox import easy_images

# The command line in a process of its own; STREAM=1 makes it read images ahead instead of holding them, and
# DIE=4 kills it in the midst of writing the checkpoint of step 4, with one file whole and one begun.
RUNNER = """
import os, signal, sys
from tapetum.data import canvas
from tapetum.train import checkpoint

if os.environ.get("STREAM"):
    canvas.free_memory = lambda: 0
if dying := os.environ.get("DIE"):
    write = checkpoint._write

    def partly(path, tensors):
        write(path, tensors)
        if path.parent.name == f".step_{int(dying):08d}.part" and path.name == "optimizer.safetensors":
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint._write = partly

from tapetum.cli import main

if __name__ == "__main__":
    sys.exit(main())
"""
COMMON: dict[str, Any] = {
    "image_size": 32,
    "batch_size": 8,
    "steps": 14,
    "checkpoint_steps": 2,
    "log_every": 1,
    "eval_every": 1,
    "workers": 1,
}
RESNET: dict[str, Any] = {"encoder": "resnet10_w32", "encoder_settings": {"channels": [8, 16, 32, 64]}}
BYOL: dict[str, Any] = {
    "method": "byol",
    "method_settings": {"hidden": 32, "dim": 16},
    "precision": "bf16",
    **RESNET,
}
SIMCLR: dict[str, Any] = {
    "method": "simclr",
    "method_settings": {"hidden": 32, "dim": 16},
    "optimizer_settings": {"name": "lamb"},
    "precision": "fp32",
    **RESNET,
}
DINO: dict[str, Any] = {
    "method": "dino",
    "method_settings": {"hidden": 32, "dim": 16, "prototypes": 24, "small_crops": 2},
    "encoder": "resnet10_w32",
    "encoder_settings": {"channels": [8, 16, 32, 64], "drop_path_rate": 0.2},
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """48 images and one that is damaged."""
    folder = tmp_path_factory.mktemp("images")
    for i, pixels in enumerate(easy_images(48)[0]):
        Image.fromarray(pixels).save(folder / f"{i:03}.png")
    whole = (folder / "020.png").read_bytes()
    (folder / "020.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def stream(monkeypatch) -> None:
    """No memory for images in this process: workers read them ahead."""
    monkeypatch.setattr("tapetum.data.canvas.free_memory", lambda: 0)


def start(*arguments: object, **environment: object) -> subprocess.Popen:
    """Begin `tapetum pretrain ...` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, "pretrain", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **{n: str(v) for n, v in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    out, error = process.communicate(timeout=120)
    return process.returncode, out + error


def when_step(run: Path, step: int, process: subprocess.Popen) -> None:
    """Wait until a run has noted some step."""
    while process.poll() is None:
        metrics = run / "metrics.jsonl"
        if metrics.exists() and any(row["step"] >= step for row in read_lines(metrics)):
            return
        time.sleep(0.002)
    pytest.fail(f"the run ended before step {step}: {process.communicate()}")


def numbers(run: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in read_lines(run / "metrics.jsonl")]


def contents(run: Path) -> dict[str, bytes]:
    """Every tensor that a run has left, and the facts beside them."""
    files = [*run.glob("checkpoints/step_*/*"), run / "encoder.safetensors"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def assert_same(run: Path, wanted: Path) -> None:
    """Two runs hold the same bits: weights, teacher, optimiser, numbers, and what was left out."""
    assert numbers(run) == numbers(wanted)
    one, other = contents(run), contents(wanted)
    assert one.keys() == other.keys() and len(one) == 7
    assert [name for name in one if one[name] != other[name]] == []
    assert read_lines(run / "skipped.jsonl") == read_lines(wanted / "skipped.jsonl")
    assert len(read_lines(run / "skipped.jsonl")) == 1


def test_killed_at_a_random_step_and_while_writing(flags, images, tmp_path):
    tapetum.pretrain(images, out=str(tmp_path / "whole"), **COMMON, **BYOL)
    run = tmp_path / "run"
    command = [images, "--out", run, "--resume", "auto", *flags(COMMON | BYOL)]

    process = start(*command)
    when_step(run, random.Random(5).randint(1, 8), process)
    process.kill()
    assert ended(process)[0] == -signal.SIGKILL

    code, said = ended(start("--resume", run, "--workers", 0, DIE=12))
    assert code == -signal.SIGKILL, said
    assert (run / "checkpoints/.step_00000012.part/optimizer.safetensors").exists()
    assert not (run / "checkpoints/step_00000012").exists()

    code, said = ended(start(*command))
    assert code == 0, said
    assert "at step 10 of 14" in said
    assert_same(run, tmp_path / "whole")


def test_killed_before_its_first_checkpoint_and_with_other_workers(flags, images, tmp_path, stream):
    whole, run = tmp_path / "whole", tmp_path / "run"
    tapetum.pretrain(images, out=str(whole), **COMMON, **DINO)

    code, said = ended(start(images, "--out", run, *flags(COMMON | DINO), DIE=2, STREAM=1))
    assert code == -signal.SIGKILL, said
    assert not list((run / "checkpoints").glob("step_*"))

    process = start("--resume", run, "--workers", 2, STREAM=1)
    when_step(run, 7, process)
    process.kill()
    assert ended(process)[0] == -signal.SIGKILL

    tapetum.pretrain(resume=str(run), workers=0)
    assert_same(run, whole)
    assert json.loads((run / "environment.json").read_text())[1]["command"][2:4] == ["--resume", str(run)]

    held = tmp_path / "held"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tapetum.data.canvas.free_memory", lambda: 2**30)
        tapetum.pretrain(images, out=str(held), **COMMON, **DINO)
    assert_same(held, whole)


def test_asked_to_stop_it_saves_and_goes_on(flags, images, tmp_path):
    tapetum.pretrain(images, out=str(tmp_path / "whole"), **COMMON, **SIMCLR)
    run = tmp_path / "run"
    command = [images, "--out", run, "--resume", "auto", *flags(COMMON | SIMCLR | {"checkpoint_steps": 100})]
    for number, at, code in ((signal.SIGTERM, 2, 75), (signal.SIGUSR1, 5, 75), (signal.SIGINT, 8, 130)):
        process = start(*command)
        when_step(run, at, process)
        process.send_signal(number)
        left, said = ended(process)
        assert left == code, said
        assert f"tapetum pretrain --resume {run}" in said
        saved = sorted(path.name for path in (run / "checkpoints").iterdir())
        assert saved[-1] == f"step_{numbers(run)[-1]['step']:08d}"
    tapetum.pretrain(resume=str(run), checkpoint_steps=2)
    assert_same(run, tmp_path / "whole")

    before = contents(run)
    tapetum.pretrain(resume=str(run))  # a run that has ended
    assert contents(run) == before
    assert_same(run, tmp_path / "whole")


def test_asked_to_stop_before_its_first_step(flags, images, tmp_path):
    process = start(images, "--out", tmp_path / "run", *flags(COMMON | SIMCLR))
    while process.poll() is None and not (tmp_path / "run" / "config.yaml").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 75
