"""Suites: a name, or a YAML file, that stands for a list of protocols and data sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tapetum.base import plain_yaml, settings
from tapetum.base.errors import TapetumError, unknown
from tapetum.evaluate import protocols

HERE = Path(__file__).parent
DATA = (  # keys of an entry of data; protocols: those of the suite that run on it, by default all
    "name", "group", "train", "test", "labels", "label_kind", "metric", "group_by", "train_images",
    "protocols",
)  # fmt: skip
_KINDS = {str: "text, in quotes where it is a number", int: "a whole number", list: "a list of names"}


@dataclass(frozen=True)
class Entry:
    """A protocol and its settings, parsed."""

    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """Args:
    entries: what is run.
    data: on which sets, each with keys of DATA; [] means the one that the caller names. "root" is where
        their relative paths start, None where the caller's data lie.
    about: what it is for, and what of it cannot be had here.
    """

    entries: list[Entry]
    data: list[dict[str, Any]] = field(default_factory=list)
    about: str = ""


def names() -> list[str]:
    """The suites that come with the package."""
    return sorted(file.stem for file in HERE.glob("*.yaml"))


def outline(name: str) -> dict[str, Any]:
    """What a suite of the package says of itself: {"what", "protocols" by name, "data" as (name, group)}."""
    tree = _tree(HERE / f"{name}.yaml")
    named = [item if isinstance(item, str) else str(item.get("protocol")) for item in tree["protocols"]]
    data = [(str(row.get("name", row["train"])), str(row.get("group", ""))) for row in tree.get("data") or []]
    return {"what": " ".join(str(tree.get("about") or "").split()), "protocols": named, "data": data}


def read(asked: Sequence[str], given: Mapping[str, Mapping[str, Any]] | None = None) -> Suite:
    """The suite of these names of protocols and suites and paths of YAML files, one after the other.

    `given` are settings by protocol; they win over those of a file. Raises TapetumError for what is unknown.
    """
    if not asked:
        raise TapetumError("there is nothing to measure with: protocols is empty, such as knn,logistic.")
    entries: list[Entry] = []
    data: list[dict[str, Any]] = []
    about: list[str] = []
    for name in asked:
        if name in protocols.names():
            entries.append(_entry(name, {}, given))
            continue
        own = str(name).endswith((".yaml", ".yml"))
        if not own and name not in names():
            raise unknown("protocol or suite", name, [*protocols.names(), *names()])
        path = Path(name) if own else HERE / f"{name}.yaml"
        tree = _tree(path)
        for item in tree["protocols"]:
            item = {"protocol": item} if isinstance(item, str) else item
            if not isinstance(item, dict) or "protocol" not in item:
                raise TapetumError(
                    f"{path}: an entry of protocols is a name, or has the key 'protocol': {item}."
                )
            entries.append(
                _entry(str(item["protocol"]), {k: v for k, v in item.items() if k != "protocol"}, given)
            )
        root = path.parent.absolute() if own else None
        data += [{**row, "root": root} for row in tree.get("data") or []]
        about += filter(None, [" ".join(str(tree.get("about") or "").split())])
    known = {entry.name for entry in entries}
    for name in (name for row in data for name in row.get("protocols", ())):
        if name not in known:
            raise unknown("protocol of a data set, but not of its suite:", name, known)
    if wrong := sorted(set(given or {}) - known):
        raise unknown("protocol with settings, but not among those that run:", wrong[0], known)
    return Suite(entries, data, " ".join(about))


def _entry(name: str, own: dict[str, Any], given: Mapping[str, Mapping[str, Any]] | None) -> Entry:
    protocol = protocols.find(name)
    typed = {**own, **(given or {}).get(name, {})}
    parsed = settings.check(f"setting of {name}", typed, protocol, f"{name}.")
    return Entry(name, parsed)


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _tree(path: Path) -> dict[str, Any]:
    tree = plain_yaml.read(path, "suite")
    tree = {"protocols": tree} if isinstance(tree, list) else tree
    if not isinstance(tree, dict) or not isinstance(tree.get("protocols"), list):
        raise TapetumError(f"{path} is no suite: it needs a list of protocols.")
    if not isinstance(tree.get("data") or [], list):
        raise TapetumError(f"{path} is no suite: its data is a list of sets of images.")
    for key in tree.keys() - {"about", "protocols", "data"}:
        raise unknown(f"key in {path}", key, ("about", "protocols", "data"))
    for row in tree.get("data") or []:
        if not isinstance(row, dict) or "train" not in row:
            raise TapetumError(f"{path}: an entry of data names at least 'train': {row}.")
        if not _texts(row.get("protocols", [])):
            raise TapetumError(f"{path}: the protocols of an entry of data are a list of names: {row}.")
        for key, value in row.items():
            if key not in DATA:
                raise unknown(f"key of data in {path}", key, DATA)
            kind = {"protocols": list, "train_images": int}.get(key, str)
            if not isinstance(value, kind) and (value is not None or key == "train"):
                raise TapetumError(f"{path}: {key} of an entry of data is {_KINDS[kind]}, not {value!r}.")
    return tree
