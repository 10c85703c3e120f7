"""The examples do what they say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tapetum.base.files import read_json
from tapetum.train.sandbox import easy_images

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_ray_train_starts_workers_that_train_together(tmp_path):
    pytest.importorskip("ray.train")
    (tmp_path / "images").mkdir()
    for i, pixels in enumerate(easy_images(32)[0]):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i:03}.png")
    settings = (
        "method=simclr",
        "encoder=resnet10_w32",
        "image_size=32",
        "batch_size=16",
        "steps=4",
        "workers=0",
    )
    done = subprocess.run(
        [sys.executable, EXAMPLES / "ray_train.py", tmp_path / "images", tmp_path / "run", "2", *settings],
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "run" / "encoder.safetensors").exists()
    assert [start["processes"] for start in read_json(tmp_path / "run" / "environment.json")] == [2]
