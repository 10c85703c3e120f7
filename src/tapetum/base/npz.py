"""Looks at a stranger's .npz before numpy does: no objects, no more memory than the file can mean."""

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

_TIGHT = 2**28, 200  # arrays of more bytes than this are at most so many times as long as they are packed


def check_npz(path: str | Path | IO[bytes]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """{name: (shape, type)} of its arrays, none for other files; nothing but headers is read.

    Raises ValueError for arrays of Python objects, for a header that promises other lengths than there are,
    names that stand twice, and packing that no images have; OSError and BadZipFile.
    """
    found: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
    if not zipfile.is_zipfile(path):
        return found
    with zipfile.ZipFile(path) as opened:
        members = opened.infolist()
        whole, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
        if whole > max(_TIGHT[0], _TIGHT[1] * packed):
            raise ValueError(f"its arrays are over {_TIGHT[1]} times as long as they are packed")
        for member in members:
            if not member.filename.endswith(".npy"):
                continue
            name = member.filename.removesuffix(".npy")
            if name in found:
                raise ValueError(f"the array {name!r} stands twice in it")
            with opened.open(member) as file:
                shape, kind = _header(file)
                if kind.hasobject:
                    raise ValueError("it holds Python objects, which are never unpickled")
                if file.tell() + math.prod(shape) * kind.itemsize != member.file_size:
                    raise ValueError(f"the array {name!r} is not as long as its header says")
            found[name] = shape, kind
    return found


def _header(file) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind
