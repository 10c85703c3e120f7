"""Defences taken away, one kind at a time: each must then be missed by at least one of the cases named."""

import contextlib
import importlib
import io
import pickle
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, isfunction, signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from tapetum.encoders.pickled import Pickled
from tapetum.report.page import Html

SILENT, HANGS = "it does not say", "it did not end"
ACTS, MEMORY, CANARY = "what acts on a terminal", "MemoryError", "there is a canary"


@dataclass(frozen=True)
class Plant:
    """Args:
    name: of the defence.
    changes: {"module:name": what stands there instead}.
    cases: that are then seen to fail, each of them; with what is seen, where that is not SILENT.
    """

    name: str
    changes: dict[str, Any]
    cases: tuple[str | tuple[str, str], ...]

    def jobs(self) -> list[tuple[str, str]]:
        """Each case with what must stand in what is wrong with it."""
        return [(case, SILENT) if isinstance(case, str) else case for case in self.cases]

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
                if isfunction(before):
                    _check_fits(value, before)
                stack.callback(setattr, owner, name, before)
                setattr(owner, name, value)
            yield


def _check_fits(value: Any, before: Any) -> None:
    """Raise TypeError where this cannot be called as what stood there before."""
    names = {True: [], False: []}
    for parameter in signature(before).parameters.values():
        names[parameter.kind is Parameter.KEYWORD_ONLY].append(parameter.name)
    signature(value).bind(*names[False], **dict.fromkeys(names[True]))


def nothing(*_: object, **__: object) -> None:
    """No check."""


def same(value: Any, *_: object, **__: object) -> Any:
    return value


def _npz(path: Any) -> dict:
    with np.load(path, allow_pickle=True) as arrays:
        return {name: (arrays[name].shape, arrays[name].dtype) for name in arrays.files}


def _yaml(path: Path, kind: str = "") -> Any:
    return yaml.unsafe_load(Path(path).read_text())


def _opened(content: Any, most: int) -> Any:
    return Image.open(content if hasattr(content, "read") else io.BytesIO(content))


def _markup(part: Any) -> Any:
    if isinstance(part, list | tuple):
        return Html("".join(map(str, part)))
    return Html("" if part in (None, False) else str(part))


def _walked(loader: Any) -> Any:
    node = loader.get_single_node()
    value = loader.construct_document(node)
    return len(str(value)) and value


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
        {LIST + "ACTS": re.compile("(?!)")},
        ("zip: a name that is written backwards", "tar: a name with a carriage return"),
    ),
    Plant(
        "ratio of packing", {LIST + "_TIGHT": (2**62, 1)}, ("zip: a bomb", "zip: a bomb of another packing")
    ),
    Plant("lengths of headers in tar", {LIST + "_LONGEST_HEADER": 2**62}, ("tar: a long name of gigabytes",)),
    Plant(
        "sizes below zero in tar",
        {LIST + "_Member": tarfile.TarInfo, LIST + "_check_onwards": nothing},
        (("tar: a size below zero", HANGS),),
    ),
    Plant(
        "kinds of packing",
        {"tapetum.data.stores:Zip.METHODS": (0, 8, 12, 14)},
        ("zip: a packing that is not known",),
    ),
    Plant(
        "length of one file",
        {"tapetum.data.stores:MAX_BYTES": 2**62, "tapetum.data.pread:MAX_BYTES": 2**62},
        (("folder: a file of a terabyte", MEMORY), "zip: a stored length of 4 GB"),
    ),
    Plant(
        "regular files alone",
        {"tapetum.data.stores:regular": lambda path: Path(path).read_bytes()},
        (("folder: a file of a terabyte", MEMORY),),
    ),
    Plant(
        "pixels are counted before they are decoded",
        {"tapetum.data.decode:_open": _opened},
        (("image: PostScript", "it did subprocess.Popen"),),
    ),
    Plant(
        "scans of a JPEG",
        {"tapetum.data.decode:_SCANS": 2**62},
        (("image: JPEG of too many scans", "it was taken for an image"),),
    ),
    Plant(
        "rows that name files",
        {"tapetum.data.columns:_beside": lambda folder, name: (folder / name).read_bytes()},
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
        (("list: Parquet of very many equal rows", MEMORY), "arrow: very many rows without room"),
    ),
    Plant(
        "ratio of packing in tables",
        {"tapetum.data.tables:check_length": lambda lengths, path: list(lengths)},
        ("table: images that unpack to gigabytes", "arrow: images that unpack to gigabytes"),
    ),
    Plant(
        "arrays are looked at first",
        {"tapetum.data.arrays:check_npz": _npz},
        (("npz: Python objects", CANARY), "npz: a bomb"),
    ),
    Plant(
        "records of packs",
        {"tapetum.data.records:_check_record": nothing},
        ("pack: a record that is another", "pack: a record that is no image"),
    ),
    Plant(
        "the index of packs",
        {"tapetum.data.packed:_check": nothing},
        ("pack: a record of exabytes", ("pack: labels of no class", "IndexError")),
    ),
    Plant(
        "pickles are not unpickled",
        {"tapetum.encoders.weights:_unpickled": lambda file: torch.load(file, weights_only=False)},
        (("pickle: os.system, loaded", CANARY), ("pickle: exec, loaded", CANARY)),
    ),
    Plant(
        "pickles of any kind are not unpickled",
        {"tapetum.encoders.weights:_unpickled": lambda file: pickle.loads(file.read_bytes())},
        (("pickle without tensors: os.system", CANARY),),
    ),
    Plant(
        "pickles are looked at first",
        {"tapetum.encoders.pickled:look": lambda file: Pickled("pickle", [], {})},
        ("pickle: TorchScript", "pickle: packed tightly"),
    ),
    Plant(
        "names in pickles",
        {"tapetum.encoders.pickled:_HARMLESS": re.compile(".*")},
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
        (("pickle: a dict that holds itself", HANGS),),
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
        (("yaml: a call", CANARY), ("run: settings that call", CANARY)),
    ),
    Plant(
        "YAML within limits",
        {"tapetum.base.plain_yaml:_value": _walked},
        (("yaml: lists that unfold to gigabytes", MEMORY), "yaml: lists forty deep"),
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
    Plant(
        "texts of devices",
        {"tapetum.base.files:read_text": lambda path: Path(path).read_text()},
        (("facts: of a device", MEMORY),),
    ),
    Plant(
        "what acts on a terminal",
        {"tapetum.base.console:outward": lambda text, keep="": text},
        (
            ("terminal: commands to a terminal", ACTS),
            ("terminal: half a letter", ACTS),
            ("folder: a class that commands a terminal", ACTS),
        ),
    ),
    Plant(
        "markup of pages",
        {"tapetum.report.page:text": _markup},
        (("page: a tag", "AssertionError"), ("page: the end of a title", "AssertionError")),
    ),
    Plant(
        "length of sentences",
        {"tapetum.base.errors:shortened": lambda text, most: text.ljust(2000, ".")},
        (("settings: a name that is none", "a sentence of"),),
    ),
    Plant(
        "code of strangers",
        {"tapetum.train.resume:_typed_again": lambda method, folder, sha256: str(folder / "method.py")},
        (("run: a method's file", "it did exec"),),
    ),
    Plant(
        "a folder for what is written",
        {"tapetum.base.files:read_json": lambda path: Path("outside").write_bytes(b"")},
        (("facts: nested without end", "it did open"), ("facts: another coding", "it changed ['outside']")),
    ),
]
