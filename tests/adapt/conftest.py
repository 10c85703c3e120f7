"""What the tests of classifiers share: small images of three colours, a small encoder, features by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tapetum.encoders import build
from tapetum.evaluate.protocols import logistic

COLOURS = {"blue": (40, 60, 200), "green": (50, 190, 60), "red": (200, 50, 40)}


def _write(folder: Path, counts: dict[str, int], seed: int = 0, noise: float = 25) -> Path:
    """Class folders of noisy images of one colour."""
    g = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.array(COLOURS.get(name, (0, 0, 0))) + g.normal(0, noise, (20, 24, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i:03d}.png")
    return folder


PENALTIES = (1.0, 0.1, 0.01)


@pytest.fixture(scope="module", autouse=True)
def penalties():
    """Fewer than there are: the smallest take longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logistic, "PENALTIES", PENALTIES)
        yield PENALTIES


@pytest.fixture(scope="session")
def write():
    return _write


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """60 images in 3 class folders."""
    return _write(tmp_path_factory.mktemp("data") / "photos", dict.fromkeys(COLOURS, 20))


@pytest.fixture(scope="session")
def encoder():
    """A small network with random weights that its spec can build again."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build("resnet10_w32", 16, channels=(8, 8, 16, 16)).eval()


def _blobs(n: int, d: int = 12, classes: int = 4, seed: int = 0, spread: float = 1.6):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=g)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(99))
    return centres[y] + spread * torch.randn(n, d, generator=g), y


@pytest.fixture(scope="session")
def blobs():
    """(n, width, classes, seed, spread) -> features [n, D] about the centres of classes, and labels [n]."""
    return _blobs
