"""Reads splits and classes off folder names, and knows which folder names mean neither."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_UNLABELLED = {"unlabeled", "unlabelled", "unsupervised", "unsup", "extra", "unknown"}
_GENERIC = re.compile(
    r"(images?|imgs?|photos?|pictures?|pics|data|dataset|jpe?gs?|pngs?|originals?|thumbs|thumbnails"
    r"|masks?|labels?|annotations?|.*_?segmentation)",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(19|20)\d\d([-_. ]?(0[1-9]|1[0-2])([-_. ]?([012]\d|3[01]))?)?([-_. ].*)?"  # 2023, 20230501, 2023-05 sea
    r"|\d\d[-_. ]\d\d([-_. ](19|20)?\d\d)?"  # 31.12, 31-12-2023
    r"|\d{3}[A-Z_]{3,5}\d{0,2}"  # a camera's folders: 100CANON, 101MSDCF, 102_PANA
    r"|(DSC|DSCN|DSCF|IMG|DCIM|PICT|GOPR|PXL|MVI)[-_ ]?\d*"
)
_DAY = re.compile(r"0[1-9]|[12]\d|3[01]")  # or a month; only where all folders are called so


def split_name(folder: str) -> str | None:
    """'train', 'validation' or 'test' for a folder of that meaning (valid/, train2017/), else None."""
    return _SPLITS.get(folder.lower().rstrip("0123456789_-"))


def splits(paths: Sequence[str]) -> tuple[list[str] | None, list[str]]:
    """The split of every path, or None without split folders; and each path below its split folder.

    Split folders may stand below folders that hold everything. They count only when every image is in one
    ('train' beside 'bus' is a vehicle).
    """
    below = list(paths)
    while True:
        tops = {path.partition("/")[0] if "/" in path else "" for path in below}
        if tops - {""} and all(split_name(top) or top.lower() in _UNLABELLED for top in tops):
            if not any(map(split_name, tops)):
                return None, below
            first = [path.partition("/")[0] for path in below]
            named = [split_name(top) or top.lower() for top in first]
            return named, [path.partition("/")[2] for path in below]
        if len(tops) != 1 or "" in tops:
            return None, below
        below = [path.partition("/")[2] for path in below]


def split_folder(paths: Sequence[str], name: str) -> str:
    """The folder of split `name` that holds all of these paths, such as 'photos/train/', or ''."""
    start = ""
    for folder in paths[0].split("/")[:-1]:
        start += folder + "/"
        if split_name(folder) == name:
            return start if all(path.startswith(start) for path in paths) else ""
    return ""


def forced_classes(paths: Sequence[str], below: Sequence[str]) -> list[str | None]:
    """The first folder of each path below its split; where there are none, the parent folder."""
    if not any("/" in path for path in below):
        below = [path.rpartition("/")[0].rpartition("/")[2] + "/" for path in paths]
    return [path.partition("/")[0] or None if "/" in path else None for path in below]


def likely_classes(below: Sequence[str]) -> tuple[list[str | None] | None, str]:
    """Class names where folders look like classes, else None and why not.

    They do when at least two folders that are neither dates nor generic ('images', 'masks') hold more than
    half of the images.
    """
    names = [path.partition("/")[0] if "/" in path else "" for path in below]
    usable = {name for name in names if name and not _is_generic(name)}
    dates = sum(bool(_DATE.fullmatch(name)) for name in usable)
    if dates * 2 > len(usable) or (usable and all(map(_DAY.fullmatch, usable))):
        return None, "folders look like dates"
    labels = [name if name in usable else None for name in names]
    if len(usable) < 2 or sum(map(bool, labels)) * 2 <= len(labels):
        return None, ""
    if len(usable) > 20 and len(usable) * 2 > len(labels):
        return None, "nearly every image has a folder of its own"
    return labels, ""


def _is_generic(name: str) -> bool:
    return name.lower() in _UNLABELLED or bool(_GENERIC.fullmatch(name))


def natural(names: Iterable[str]) -> list[str]:
    """Sorted as people count: 'class2' before 'class10'."""

    def key(name: str) -> tuple[list[Any], str]:
        parts = re.split(r"(\d+)", name.lower())  # text and numbers take turns
        return [_number(part) if i % 2 else part for i, part in enumerate(parts)], name

    def _number(digits: str) -> tuple[int, str]:  # int() takes no more than 4,300
        digits = digits.lstrip("0")
        return len(digits), digits

    return sorted(names, key=key)
