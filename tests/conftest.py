"""What all tests share: one thread each, a cache of their own, real data only where its folder is named."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: tests run side by side

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

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
