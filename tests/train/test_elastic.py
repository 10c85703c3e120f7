"""Under torchrun a run whose process is killed starts again by itself and ends as if nothing had happened."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

import small_runs
import tapetum
from run_files import rows
from tapetum.base.files import read_json
from tapetum.train.sandbox import easy_images

# The command line, whose second process is killed when it plans the eleventh step, the first time.
RUNNER = """
import os, signal, sys
from tapetum.train.feed import Feed

plan = Feed.plan

def deadly(self, step):
    if step == 10 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return plan(self, step)

Feed.plan = deadly

from tapetum.cli import main

sys.exit(main())
"""
SETTINGS = {**small_runs.SMALL, "steps": 12, "checkpoint_steps": 4, "workers": 0, "parallel": "sharded"}


@pytest.fixture(scope="module")
def killed(tmp_path_factory, flags) -> Path:
    """The folder of a run on two processes, one of which was killed; the images lie beside it."""
    place = tmp_path_factory.mktemp("elastic")
    (place / "images").mkdir()
    for i, pixels in enumerate(easy_images(48)[0]):
        Image.fromarray(pixels).save(place / "images" / f"{i:03}.png")
    (place / "runner.py").write_text(RUNNER)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    command = [
        sys.executable,
        *torchrun,
        place / "runner.py",
        "pretrain",
        place / "images",
        "--resume",
        "auto",
    ]
    done = subprocess.run(
        [*command, "--out", place / "run", *flags(SETTINGS)],
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "at step 8 of 12" in done.stdout
    return place / "run"


def test_a_killed_process_leads_to_a_restart_and_the_same_end(killed, tmp_path):
    assert [start["processes"] for start in read_json(killed / "environment.json")] == [2, 2]
    tapetum.pretrain(killed.parent / "images", out=str(tmp_path / "whole"), devices=2, **SETTINGS)
    assert rows(killed) == rows(tmp_path / "whole")
    for name in ("encoder.safetensors", "checkpoints/step_00000012/state.json"):
        assert (killed / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_the_rest_of_it_can_be_done_by_fewer_processes(killed, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(
        killed, run, ignore=lambda _, names: {n for n in names if n.startswith(("encoder", "step_00000012"))}
    )
    tapetum.pretrain(resume=str(run), devices="cpu", parallel="data")
    for row, wanted in zip(rows(run), rows(killed), strict=True):
        assert row == pytest.approx(wanted, rel=1e-3), row["step"]
    one, two = (load_file(folder / "encoder.safetensors") for folder in (run, killed))
    assert all(float((one[n].double() - two[n].double()).abs().max()) < 1e-4 for n in one)
