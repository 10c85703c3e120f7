"""What the tests of features and of measuring share: small images and a small encoder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tapetum.encoders import Encoder

COLOURS = {"blue": (40, 60, 200), "green": (50, 190, 60), "red": (200, 50, 40)}


def _write_images(
    folder: Path, per_class: int, seed: int = 0, classes: tuple[str, ...] = tuple(COLOURS)
) -> Path:
    """Class folders of noisy images of one colour."""
    g = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            noise = g.normal(0, 60, (12, 16, 3))
            pixels = (np.array(COLOURS[name]) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture
def images(tmp_path, monkeypatch) -> Path:
    """24 images in 3 class folders, and a cache of this test alone."""
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "cache"))
    return _write_images(tmp_path / "images", 8)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return Encoder.wrap(net, 8, name="small").eval()


@pytest.fixture
def write_images():
    return _write_images
