"""WebDataset: tar shards in which files of one stem are one sample (0001.jpg, 0001.cls, 0001.txt)."""

import glob
import json
import re
from collections.abc import Sequence
from pathlib import Path

from tapetum.base.errors import TapetumError
from tapetum.data.decode import EXTENSIONS, Damaged
from tapetum.data.far import Far
from tapetum.data.listing import Entry, Listing, images
from tapetum.data.lists import LABEL
from tapetum.data.place import place
from tapetum.data.source import Source

BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}")
_SIDECARS = ("cls", "json", "txt")
_LONGEST = 2**24  # bytes of a label or a text


def expand(pattern: str) -> list[Path | Far]:
    """'a-{000..003}.tar', 'a-{x,y}.tar' and '*.tar' -> the paths, sorted within each glob."""
    if found := BRACES.search(pattern):
        first, last, listed = found.groups()
        if listed is not None:
            options = listed.split(",")
        else:
            if int(last) - int(first) > 1_000_000:
                raise TapetumError(f"{pattern} stands for more than a million files.")
            options = [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
        before, after = pattern[: found.start()], pattern[found.end() :]
        return [path for option in options for path in expand(before + option + after)]
    path = place(pattern)
    if isinstance(path, Far):
        return [*path.glob()] if glob.has_magic(path.path) and not path.web else [path]
    if glob.has_magic(pattern):
        return [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
    return [path]


def _stem(path: str) -> tuple[str, str]:
    """'a/0001.seg.png' -> ('a/0001', 'seg.png'): a sample ends at the first dot of its name."""
    folder, _, name = path.rpartition("/")
    stem, _, kind = name.partition(".")
    return f"{folder}/{stem}" if folder else stem, kind.lower()


def is_webdataset(entries: Sequence[Entry]) -> bool:
    """Whether images have labels or texts of the same stem beside them."""
    members: dict[str, set[str]] = {}
    for entry in entries:
        stem, kind = _stem(entry.path)
        members.setdefault(stem, set()).add("image" if "." + kind in EXTENSIONS else kind)
    return any("image" in kinds and kinds & set(_SIDECARS) for kinds in members.values())


def open_webdataset(name: str, listing: Listing) -> Source:
    """One image a sample; .cls or .json give its label, .txt its text."""
    beside: dict[str, dict[str, Entry]] = {}
    rest = []
    for entry in listing.entries:
        stem, kind = _stem(entry.path)
        if kind in _SIDECARS:
            beside.setdefault(stem, {})[kind] = entry
        else:
            rest.append(entry)
    kept, skipped = images(rest)
    single: dict[str, Entry] = {}
    for entry in kept:
        stem, kind = _stem(entry.path)
        if "." + kind not in EXTENSIONS or stem in single:
            skipped.append({"path": entry.path, "reason": "second image of a sample"})
        else:
            single[stem] = entry
    source = Source(name, listing.store, [e.key for e in single.values()], [e.path for e in single.values()])
    source.skipped = skipped
    if not single:
        return source

    def text(stem: str, kind: str) -> str:
        entry = beside.get(stem, {}).get(kind)
        if not entry or entry.size > _LONGEST or entry.problem:
            return ""
        try:
            return listing.store.content(entry.key).decode(errors="replace").strip()
        except Damaged:
            return ""

    kinds = {kind for stem in single for kind in beside.get(stem, {})}
    if "txt" in kinds:
        source.texts = [text(stem, "txt") for stem in single]
    for kind in ("cls", "json"):
        if kind in kinds:
            read = _label_in_json if kind == "json" else str
            if any(names := [read(text(stem, kind)) for stem in single]):
                return source.with_labels(names, f".{kind} members")
    return source


def _label_in_json(text: str) -> str:
    """The label among an object's entries, or ''."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    if isinstance(value, dict):
        value = next((value[name] for name in (*LABEL, "cls", "label_name") if name in value), None)
    return str(value) if isinstance(value, int | float | str) else ""
