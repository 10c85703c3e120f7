"""Finds the protocols: every file in this folder that defines `protocol` is one, under the file's name."""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tapetum.base.errors import unknown

HERE = Path(__file__).parent


def names() -> list[str]:
    """The names of all protocols, without importing any."""
    return [file.stem for file in sorted(HERE.glob("*.py")) if _defines_protocol(file)]


def _defines_protocol(file: Path) -> bool:
    body = ast.parse(file.read_text()).body
    return any(isinstance(node, ast.FunctionDef) and node.name == "protocol" for node in body)


def find(name: str) -> Callable[..., Any]:
    """The protocol of this name: a function (train: Features, test: Features, **settings) -> Result.

    Raises TapetumError, with the nearest match, when there is none.
    """
    if name not in names():
        raise unknown("protocol", name, names())
    return importlib.import_module(f"tapetum.evaluate.{name}").protocol
