"""What the tests of measuring share: small images, a small encoder, features made by hand."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tapetum.data.open import open_data
from tapetum.encoders import Encoder
from tapetum.evaluate.store import Features

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


def _features_of(
    x: torch.Tensor, y: torch.Tensor, classes: list[str] | None = None, damaged=None
) -> Features:
    """Stored features as if x [N, D] had been computed from images labelled y [N]."""
    tag = np.random.default_rng(zlib.crc32(x.numpy().tobytes())).integers(0, 255, (len(x), 2, 2, 3), np.uint8)
    source = open_data(tag, labels="none")
    classes = classes or [f"c{i}" for i in range(int(y.max()) + 1)]
    source = source.with_labels([classes[i] if i >= 0 else None for i in y.tolist()], "by hand", classes)
    return Features(x.numpy().copy(), source, {"weights": "by hand"}, damaged or {})


def _blobs(n: int, d: int = 12, classes: int = 4, seed: int = 0, spread: float = 1.6):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=g)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(99))
    return centres[y] + spread * torch.randn(n, d, generator=g), y


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


@pytest.fixture
def features_of():
    return _features_of


@pytest.fixture
def blobs():
    return _blobs
