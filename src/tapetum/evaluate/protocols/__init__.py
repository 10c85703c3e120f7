"""The protocols: each file here is one, under the file's name.

A protocol is a function `protocol(case, **settings)` that gives a Result or several, and a number VERSION
that rises whenever it would give other numbers than before. Its keywords are its settings and become flags,
`--knn.k 5`. `SPLITS` says what it wants where no test images are given: "folds" (cross-validation, the
usual), "once" (one held-out part, for what takes long), or "none" (all images, for what needs no labels).
`NEEDS` says what the encoder must give, "vector" (the usual) or "maps", which raw pixels do not.
"""

import ast
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tapetum.base import errors  # not `unknown` itself: that is the name of a protocol

HERE = Path(__file__).parent


def names() -> list[str]:
    """The names of all protocols, without importing any."""
    return sorted(file.stem for file in HERE.glob("*.py") if file.stem != "__init__")


def find(name: str) -> Callable[..., Any]:
    """The protocol of this name: a function (case, **settings) -> Result or several.

    Raises TapetumError, with the nearest match, when there is none.
    """
    return _module(name).protocol


def splits(name: str) -> str:
    """What the protocol wants where no test images are given."""
    return getattr(_module(name), "SPLITS", "folds")


def needs(name: str) -> str:
    """What the encoder must give for the protocol."""
    return getattr(_module(name), "NEEDS", "vector")


def needs_labels(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether it asks for a label of each image: a module without `LABELS = False`, and no ground truth."""
    return getattr(_module(name), "LABELS", True) and not settings.get("ground_truth")


def idea(name: str) -> str:
    """What the protocol measures, as its file's first line says."""
    return (ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or "").partition("\n")[0]


def _module(name: str) -> Any:
    if name not in names():
        raise errors.unknown("protocol", name, names())
    return importlib.import_module(f"tapetum.evaluate.protocols.{name}")
