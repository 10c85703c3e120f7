"""Ground truth in the layout of the revisited Oxford and Paris, and the images that it names."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from tapetum.base.errors import TapetumError, unknown
from tapetum.base.files import read_json, short_id
from tapetum.data.decode import EXTENSIONS, Damaged
from tapetum.data.form import RGB
from tapetum.data.source import Source
from tapetum.data.stores import Store

GRADES = ("easy", "hard", "junk")
Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class GroundTruth:
    """Args:
    gallery, queries: names of images.
    grades: for each query the places in `gallery` by grade.
    boxes: of each query what is asked for; None is the whole image.
    id: names the content of the file.
    """

    gallery: list[str]
    queries: list[str]
    grades: list[dict[str, list[int]]]
    boxes: list[Box | None]
    id: str


def read(path: str) -> GroundTruth:
    """Raises TapetumError for a file that is not {"imlist": [...], "qimlist": [...], "gnd": [{...}, ...]}."""
    tree = read_json(path)
    if not isinstance(tree, dict) or any(
        not isinstance(tree.get(k), list) for k in ("imlist", "qimlist", "gnd")
    ):
        raise TapetumError(f'{path} is no ground truth: it needs the lists "imlist", "qimlist" and "gnd".')
    gallery, queries, known = [list(map(str, tree[key])) for key in ("imlist", "qimlist")] + [tree["gnd"]]
    if len(known) != len(queries) or not known:
        raise TapetumError(f"{path} has {len(queries)} names in qimlist, but {len(known)} entries in gnd.")
    grades: list[dict[str, list[int]]] = []
    boxes: list[Box | None] = []
    for name, entry in zip(queries, known):
        where = f"{path}, query {name}"
        if not isinstance(entry, dict):
            raise TapetumError(
                f"{where}: an entry of gnd has the keys {', '.join(GRADES)} and bbx; it is {entry!r}."
            )
        for key in entry.keys() - {*GRADES, "bbx"}:
            raise unknown(f"key in {where}:", key, (*GRADES, "bbx"))
        grades.append(
            {grade: _places(entry.get(grade, []), len(gallery), f"{where}, {grade}") for grade in GRADES}
        )
        boxes.append(_box(entry.get("bbx"), where))
    try:
        return GroundTruth(gallery, queries, grades, boxes, short_id(tree))
    except ValueError as error:  # not-a-number among the names
        raise TapetumError(f"{path} is no ground truth: {error}.") from error


def _places(given: Any, count: int, where: str) -> list[int]:
    if not isinstance(given, list) or not all(type(i) is int and 0 <= i < count for i in given):
        raise TapetumError(f"{where}: these must be places in imlist, from 0 to {count - 1}.")
    return given


def _box(given: Any, where: str) -> Box | None:
    if given is None:
        return None
    try:
        left, top, right, bottom = (max(0, round(edge)) for edge in given)
    except (TypeError, ValueError, OverflowError):
        left = top = right = bottom = 0
    if left >= right or top >= bottom:
        raise TapetumError(f"{where}: bbx must be [left, top, right, bottom] in pixels; it is {given!r}.")
    return left, top, right, bottom


def rows(names: Sequence[str], paths: Sequence[str], where: str) -> np.ndarray:
    """The row of each name [n] among `paths`, by the file's name without folders and without its ending.

    Raises TapetumError for names that are not there or could be two images.
    """
    found: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        found.setdefault(_stem(path), []).append(row)
    if lacking := [name for name in names if _stem(name) not in found]:
        raise TapetumError(
            f"{len(lacking):,} of {len(names):,} images are not in {where}, such as {lacking[0]}."
        )
    if twice := [name for name in names if len(found[_stem(name)]) > 1]:
        shown = " and ".join(paths[row] for row in found[_stem(twice[0])][:2])
        raise TapetumError(f"{twice[0]} could be two images of {where}: {shown}.")
    return np.array([found[_stem(name)][0] for name in names], dtype=np.int64)


def _stem(path: str) -> str:
    name = PurePosixPath(path)
    return name.stem if name.suffix.lower() in EXTENSIONS else name.name


def cut(source: Source, boxes: Sequence[Box | None]) -> Source:
    """These boxes of the images, in the order of the images."""
    return Source(
        f"boxes of {source.name}",
        _Boxes(source.formed(RGB)),
        list(enumerate(boxes)),
        [f"{i:09d}" for i in range(len(boxes))],
    )


class _Boxes(Store):
    """Boxes of a source's images; a key is (row, box)."""

    def __init__(self, source: Source):
        self.source = source

    def content(self, key: tuple[int, Box | None]) -> bytes:
        row, box = key
        pixels = self.source.read(row)
        left, top, right, bottom = box or (0, 0, pixels.shape[1], pixels.shape[0])
        if not pixels[top:bottom, left:right].size:
            raise Damaged(f"the box {box} lies outside of the image")
        file = io.BytesIO()
        Image.fromarray(pixels[top:bottom, left:right]).save(file, "PNG")
        return file.getvalue()
