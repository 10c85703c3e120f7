"""What all tests share: one thread each, a cache of their own, real data only where its folder is named."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: tests run side by side

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tapetum.base.torchvision_compat  # noqa: F401 - lightly, an oracle, imports torchvision by itself

torch.set_num_threads(1)
DATA = os.environ.get("TAPETUM_DATA")


def pytest_report_header() -> str:
    return f"real data: {DATA}" if DATA else "real data: none, since TAPETUM_DATA is not set; its tests skip"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The session's own cache folder, so that no test finds what an earlier session left."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("TAPETUM_CACHE")
    os.environ["TAPETUM_CACHE"] = str(folder)
    yield folder
    os.environ.pop("TAPETUM_CACHE")
    if before is not None:
        os.environ["TAPETUM_CACHE"] = before


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets; the test skips where there is none."""
    if not DATA:
        pytest.skip("needs real data: set TAPETUM_DATA to the folder that holds it")
    return Path(DATA)


@pytest.fixture(scope="session")
def write_photos() -> Callable[[Path], None]:
    """A function that puts 24 photos of two classes into FOLDER/photos, and unsorted into FOLDER/flat."""

    def write(folder: Path) -> None:
        rng = np.random.default_rng(0)
        for i in range(24):
            pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            for name in (f"photos/{'cat' if i % 2 else 'dog'}/{i}.png", f"flat/{i}.png"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / name)

    return write


@pytest.fixture
def work(model, tmp_path, monkeypatch) -> Path:
    """A copy of the fixture `model` of a test's file, to be damaged; relative names mean its files."""
    shutil.copytree(model, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"
