"""Defences taken away, one kind at a time: each must then be missed by at least one of the cases named."""

import contextlib
import importlib
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Plant:
    """Args:
    name: of the defence.
    changes: {"module:name": what stands there instead}.
    cases: that are then seen to fail, each of them.
    """

    name: str
    changes: dict[str, Any]
    cases: tuple[str, ...]

    @contextmanager
    def taken_away(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for place, value in self.changes.items():
                module, _, name = place.partition(":")
                owner: Any = importlib.import_module(module)
                *outer, name = name.split(".")
                for part in outer:
                    owner = getattr(owner, part)
                before = owner.__dict__[name]
                stack.callback(setattr, owner, name, before)
                setattr(owner, name, value)
            yield


def nothing(*_: object, **__: object) -> None:
    """No check."""


def same(value: Any, *_: object, **__: object) -> Any:
    return value


def _whole(path: str) -> bytes:
    return Path(path).read_bytes()


def _beside(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


def _npz(path: Any) -> dict:
    import numpy as np

    with np.load(path, allow_pickle=True) as arrays:
        return {name: (arrays[name].shape, arrays[name].dtype) for name in arrays.files}


def _unpickled(file: Path) -> Any:
    return pickle.loads(file.read_bytes())


def _torch(file: Path) -> Any:
    import torch

    return torch.load(file, weights_only=False)


def _yaml(path: Path, kind: str = "") -> Any:
    import yaml

    return yaml.unsafe_load(Path(path).read_text())


def _walked(loader: Any) -> Any:
    node = loader.get_single_node()
    value = loader.construct_document(node)
    return len(str(value)) and value


def _text(path: Any) -> str:
    return Path(path).read_text()


def _files(path: Path) -> bool:
    return True


def _member() -> Any:
    import tarfile

    return tarfile.TarInfo


def _looked() -> Any:
    from tapetum.encoders.pickled import Pickled

    return Pickled("pickle", [], {})


LIST = "tapetum.data.listing:"
PLANTS = [
    Plant(
        "names in archives",
        {LIST + "_unsafe": lambda name: ""},
        (
            "zip: a name that goes up",
            "tar: an absolute name",
            "zip: a name that commands a terminal",
            "tar: a name of two lines",
        ),
    ),
    Plant(
        "turned writing and control characters in names",
        {LIST + "ACTS": __import__("re").compile("(?!)")},
        ("zip: a name that is written backwards", "tar: a name with a carriage return"),
    ),
    Plant(
        "ratio of packing", {LIST + "_TIGHT": (2**62, 1)}, ("zip: a bomb", "zip: a bomb of another packing")
    ),
    Plant("lengths of headers in tar", {LIST + "_LONGEST_HEADER": 2**62}, ("tar: a long name of gigabytes",)),
    Plant(
        "sizes below zero in tar",
        {LIST + "_Member": _member(), LIST + "_check_onwards": nothing},
        ("tar: a size below zero",),
    ),
    Plant(
        "kinds of packing",
        {"tapetum.data.stores:Zip.METHODS": (0, 8, 12, 14)},
        ("zip: a packing that is not known",),
    ),
    Plant(
        "length of one file",
        {"tapetum.data.stores:MAX_BYTES": 2**62, "tapetum.data.pread:MAX_BYTES": 2**62},
        ("folder: a file of a terabyte", "zip: a stored length of 4 GB"),
    ),
    Plant("regular files alone", {"tapetum.data.stores:regular": _whole}, ("folder: a file of a terabyte",)),
    Plant(
        "pixels are counted before they are decoded",
        {
            "tapetum.data.decode:_open": lambda content, most: __import__("PIL.Image").Image.open(
                content if hasattr(content, "read") else __import__("io").BytesIO(content)
            )
        },
        ("image: PostScript",),
    ),
    Plant("scans of a JPEG", {"tapetum.data.decode:_SCANS": 2**62}, ("image: JPEG of too many scans",)),
    Plant(
        "rows that name files",
        {"tapetum.data.columns:_beside": _beside},
        ("table: a row that names a secret",),
    ),
    Plant(
        "names in saved data sets",
        {"tapetum.data.columns:_own": same},
        ("saved: a split that goes up", "saved: a file elsewhere"),
    ),
    Plant(
        "rows for the bytes there are",
        {
            "tapetum.data.lists:check_count": nothing,
            "tapetum.data.columns:check_count": nothing,
            "tapetum.data.tables:check_length": lambda lengths, path: list(lengths),
        },
        ("list: Parquet of very many equal rows", "arrow: very many rows without room"),
    ),
    Plant(
        "ratio of packing in tables",
        {"tapetum.data.tables:check_length": lambda lengths, path: list(lengths)},
        ("table: images that unpack to gigabytes", "arrow: images that unpack to gigabytes"),
    ),
    Plant(
        "arrays are looked at first",
        {"tapetum.data.arrays:check_npz": _npz},
        ("npz: Python objects", "npz: a bomb"),
    ),
    Plant(
        "records of packs",
        {"tapetum.data.records:_check_record": nothing},
        ("pack: a record that is another", "pack: a record that is no image"),
    ),
    Plant(
        "the index of packs",
        {"tapetum.data.packed:_check": nothing},
        ("pack: a record of exabytes", "pack: labels of no class"),
    ),
    Plant(
        "pickles are not unpickled",
        {"tapetum.encoders.weights:_unpickled": _torch},
        ("pickle: os.system, loaded", "pickle: exec, loaded"),
    ),
    Plant(
        "pickles of any kind are not unpickled",
        {"tapetum.encoders.weights:_unpickled": _unpickled},
        ("pickle without tensors: os.system",),
    ),
    Plant(
        "pickles are looked at first",
        {"tapetum.encoders.pickled:look": lambda file: _looked()},
        ("pickle: TorchScript", "pickle: packed tightly"),
    ),
    Plant(
        "names in pickles",
        {"tapetum.encoders.pickled:_HARMLESS": __import__("re").compile(".*")},
        ("pickle: os.system, looked at", "pickle by hand: names on the stack"),
    ),
    Plant(
        "tensors whose numbers are there",
        {"tapetum.encoders.weights:_usual": lambda value: True},
        ("pickle: a tensor that claims a terabyte",),
    ),
    Plant(
        "a dict that holds itself",
        {"tapetum.encoders.weights:_DEEPEST": 10**12},
        ("pickle: a dict that holds itself",),
    ),
    Plant(
        "arguments that reach out",
        {"tapetum.encoders.limits:REACHING": ()},
        ("encoder: a checkpoint for timm to read", "encoder: a folder to write to"),
    ),
    Plant(
        "numbers among arguments",
        {"tapetum.encoders.limits:LARGEST": 2**62},
        ("encoder: a width of millions",),
    ),
    Plant(
        "sizes of networks",
        {"tapetum.encoders.build:_check_size": nothing},
        ("encoder: a network of many gigabytes",),
    ),
    Plant(
        "models by name",
        {"tapetum.encoders.build:known": lambda name: (name, {})},
        ("encoder: a model of a folder",),
    ),
    Plant(
        "YAML by the safe loader",
        {"tapetum.base.plain_yaml:read": _yaml},
        ("yaml: a call", "run: settings that call"),
    ),
    Plant(
        "YAML within limits",
        {"tapetum.base.plain_yaml:_value": _walked},
        ("yaml: lists that unfold to gigabytes", "yaml: lists forty deep"),
    ),
    Plant(
        "settings of runs",
        {"tapetum.train.stranger:closed": nothing},
        ("run: a logger that sends numbers", "run: a place to write to"),
    ),
    Plant(
        "links out of runs",
        {"tapetum.train.stranger:no_way_out": nothing},
        ("run: metrics.jsonl links to what is precious", "run: looked at, its links are named"),
    ),
    Plant(
        "links out of runs that are told of",
        {"tapetum.report.story:within": lambda path: True},
        ("run: told of, its results are elsewhere",),
    ),
    Plant(
        "files of checkpoints",
        {"tapetum.train.checkpoint:digest": lambda path: "0" * 64},
        ("checkpoint: a file that is another",),
    ),
    Plant("texts of devices", {"tapetum.base.files:read_text": _text}, ("facts: of a device",)),
    Plant(
        "what acts on a terminal",
        {"tapetum.base.console:outward": lambda text, keep="": text},
        (
            "terminal: commands to a terminal",
            "terminal: half a letter",
            "folder: a class that commands a terminal",
        ),
    ),
    Plant(
        "markup of pages",
        {
            "tapetum.report.page:text": lambda part: __import__(
                "tapetum.report.page", fromlist=["Html"]
            ).Html(
                "".join(map(str, part))
                if isinstance(part, list | tuple)
                else ""
                if part in (None, False)
                else str(part)
            )
        },
        ("page: a tag", "page: the end of a title"),
    ),
]
USED: tuple[Callable, ...] = (os.getcwd,)
