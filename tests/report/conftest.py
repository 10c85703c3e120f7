"""A measured run whose class has an evil name, and its page, which several files of tests read."""

from pathlib import Path

import pytest

import tapetum
from small_pages import EVIL, Read
from small_runs import SMALL

LONG = {"steps": 6, "checkpoint_steps": 2, "eval_every": 1}


@pytest.fixture(scope="session")
def measured(tmp_path_factory, write_photos) -> Path:
    """Photos of two classes, one of them with an evil name; a file that is no image; a measured run."""
    folder = tmp_path_factory.mktemp("report")
    write_photos(folder)
    (folder / "photos" / "cat").rename(folder / "photos" / EVIL)
    (folder / "photos" / "dog" / "broken.png").write_bytes(b"no image")
    tapetum.pretrain(str(folder / "photos"), out=str(folder / "run"), **SMALL, **LONG)
    tapetum.evaluate(str(folder / "run"), train_data=str(folder / "photos"), protocols=("knn",))
    return folder


@pytest.fixture(scope="session")
def whole(measured) -> Read:
    tapetum.report(str(measured / "run"))
    return Read(measured / "run" / "report.html")
