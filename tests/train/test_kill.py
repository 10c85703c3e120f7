"""Killed at any moment and gone on with, a run ends bit-equal to one that was never killed."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tapetum
from killed_runs import PLACES, differences, ended, noted, start
from run_files import contents, rows
from tapetum.base.files import read_lines
from tapetum.train import checkpoint
from tapetum.train.sandbox import easy_images

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


def when_step(run: Path, step: int, process: subprocess.Popen) -> None:
    """Wait until a run has noted some step."""
    if not noted(run, step, process):
        pytest.fail(f"the run ended before step {step}: {process.communicate()}")


def assert_same(run: Path, wanted: Path) -> None:
    """Two runs hold the same bits: weights, teacher, optimiser, numbers, and what was left out."""
    assert differences(run, wanted) == []
    assert len(contents(run)) == 7
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


@pytest.mark.parametrize("place", PLACES[2::2] + PLACES[5:])
def test_killed_anywhere_in_writing_a_checkpoint_it_keeps_one_that_is_whole(flags, images, tmp_path, place):
    run = tmp_path / "run"
    settings = COMMON | SIMCLR | {"steps": 4, "checkpoint_steps": 1}
    code, said = ended(start(images, "--out", run, *flags(settings), DIE=f"3,{place},0.3"))
    assert code == -signal.SIGKILL, said
    whole = checkpoint.newest(run / "checkpoints")
    assert whole and whole[1]["step"] == (3 if place in ("named", "old") else 2)


def test_killed_when_its_last_checkpoint_has_a_name_it_ends_with_as_many(flags, images, tmp_path):
    settings, run = COMMON | SIMCLR | {"steps": 4, "checkpoint_steps": 1}, tmp_path / "run"
    tapetum.pretrain(images, out=str(tmp_path / "whole"), **settings)
    code, said = ended(start(images, "--out", run, *flags(settings), DIE="4,named"))
    assert code == -signal.SIGKILL, said
    before = len(checkpoint.found(run / "checkpoints"))
    tapetum.pretrain(resume=str(run))
    assert len(checkpoint.found(run / "checkpoints")) == before - 1
    assert differences(run, tmp_path / "whole") == []


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
        assert saved[-1] == f"step_{rows(run)[-1]['step']:08d}"
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
