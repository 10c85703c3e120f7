"""What the tests of measuring share: features made by hand, and cases of them."""

import zlib

import numpy as np
import pytest
import torch

from small_images import encoder, images, write_images  # noqa: F401 - fixtures
from tapetum.data.open import open_data
from tapetum.evaluate.case import Case
from tapetum.features import Features


def _features_of(
    x: torch.Tensor, y: torch.Tensor, classes: list[str] | None = None, damaged=None
) -> Features:
    """Stored features as if x [N, D] had been computed from images labelled y [N]."""
    tag = np.random.default_rng(zlib.crc32(x.numpy().tobytes())).integers(0, 255, (len(x), 2, 2, 3), np.uint8)
    source = open_data(tag, labels="none")
    if isinstance(y, list):  # labels as texts
        names, classes = y, sorted(set(y))
    else:
        classes = classes or [f"c{i}" for i in range(int(y.max()) + 1)]
        names = [classes[i] if i >= 0 else None for i in y.tolist()]
    source = source.with_labels(names, "by hand", classes)
    return Features(x.numpy().copy(), source, {"weights": "by hand"}, damaged or {}, source.digests())


def _blobs(n: int, d: int = 12, classes: int = 4, seed: int = 0, spread: float = 1.6):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=g)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(99))
    return centres[y] + spread * torch.randn(n, d, generator=g), y


@pytest.fixture
def features_of():
    return _features_of


@pytest.fixture
def blobs():
    return _blobs


@pytest.fixture
def pair(blobs, features_of) -> Case:
    """300 training and 120 test rows of four classes."""
    return Case(features_of(*blobs(300)), features_of(*blobs(120, seed=1)))


@pytest.fixture
def two(blobs, features_of) -> Case:
    """200 training and 90 test rows of two classes that overlap, judged by auroc."""
    parts = [features_of(*blobs(n, classes=2, seed=seed, spread=3)) for seed, n in enumerate((200, 90))]
    return Case(*parts, metric="auroc")
