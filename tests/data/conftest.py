"""Small images of every kind for the tests of data, and a cache of their own."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def picture():
    """picture(seed, height, width) -> uint8 [H, W, 3]."""

    def make(seed: int, height: int = 8, width: int = 10) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return make


@pytest.fixture
def png(picture):
    """png(seed, height, width) -> an encoded image that decodes to picture(seed, height, width)."""

    def make(seed: int, height: int = 8, width: int = 10) -> bytes:
        out = io.BytesIO()
        Image.fromarray(picture(seed, height, width)).save(out, "PNG")
        return out.getvalue()

    return make


@pytest.fixture
def write(tmp_path):
    """write({path: bytes}, folder) writes files below a folder of tmp_path, which is returned."""

    def make(files: dict[str, bytes | str], folder: str = "photos") -> Path:
        for name, content in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / folder

    return make


@pytest.fixture
def zipped(tmp_path):
    """zipped({path: bytes}) -> a zip file of them."""

    def make(files: dict[str, bytes], name: str = "photos.zip", packing: int = zipfile.ZIP_DEFLATED) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", packing) as out:
            for path, content in files.items():
                out.writestr(path, content)
        return tmp_path / name

    return make


@pytest.fixture
def real():
    """real(name) -> a file of real images, or a skip."""

    def find(name: str) -> Path:
        folder = os.environ.get("TAPETUM_DATA")
        if not folder:
            pytest.skip("TAPETUM_DATA is unset")
        return Path(folder) / name

    return find
