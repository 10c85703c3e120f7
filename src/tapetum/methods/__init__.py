"""Every published method, one file each, in a folder per mechanism; a new file is found by itself."""

import ast
import hashlib
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tapetum.base.errors import TapetumError, unknown

if TYPE_CHECKING:
    from tapetum.methods.method import Method

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """A method as its file describes it, read without running it."""

    name: str
    family: str
    file: Path
    line: str  # one sentence: the idea
    source: str  # the paper
    exported: str  # which of its networks is evaluated and exported


def plain(name: str) -> str:
    """`MoCo_v2` and `mocov2` are one name."""
    return "".join(c for c in name.lower() if c.isalnum())


def catalogue() -> dict[str, Entry]:
    """All methods of the package by name."""
    found = {}
    for file in sorted(HERE.glob("*/*.py")):
        if file.name != "__init__.py":
            entry = described(file)
            found[entry.name] = entry
    return found


def described(file: Path) -> Entry:
    """What a method's file says of itself in its first line. Raises TapetumError where it is no Python."""
    try:
        tree = ast.parse(file.read_text())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TapetumError(f"{file} is not readable Python: {error}.") from error
    text = (ast.get_docstring(tree) or "").splitlines()
    first = text[0] if text else ""
    line, _, source = first.partition(" arXiv:")
    source = f"arXiv:{source}" if source else ""
    return Entry(file.stem, file.parent.name, file, line, source, _exported(tree))


def _exported(tree: ast.Module) -> str:
    """What `product` returns, of a method's file or of the one whose class it fills: encoder or teacher."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "product":
            found = [part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)]
            return found[-1] if found else "encoder"  # the innermost, next to self
    for node in tree.body:
        family = re.fullmatch(r"tapetum\.methods\.(\w+)\.(\w+)", getattr(node, "module", None) or "")
        if family and any(name.name in _bases(tree) for name in getattr(node, "names", [])):
            return described(HERE / family[1] / f"{family[2]}.py").exported
    return "encoder"


def _bases(tree: ast.Module) -> set[str]:
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {base.id for one in classes for base in one.bases if isinstance(base, ast.Name)}


def names() -> list[str]:
    """The names of all methods, without importing any."""
    return list(catalogue())


def find(name: str) -> "type[Method]":
    """The class of a method by its name, or from somebody's own file when the name ends in `.py`.

    Raises TapetumError, with the nearest match, when there is none.
    """
    if name.endswith(".py"):
        return _only_method(_from_file(Path(name)), name)
    known = {plain(n): entry for n, entry in catalogue().items()}
    if plain(name) not in known:
        raise unknown("method", name, names())
    entry = known[plain(name)]
    return _only_method(importlib.import_module(f"{__name__}.{entry.family}.{entry.name}"), name)


def _only_method(module, name: str) -> "type[Method]":
    from tapetum.methods.method import Method

    classes = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Method) and c.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise TapetumError(f"{name} must define exactly one subclass of Method; it defines {len(classes)}.")
    return classes[0]


def _from_file(file: Path):
    """Import a method's file under a name made of its content, so that two versions do not mix."""
    if not file.is_file():
        raise TapetumError(f"there is no file {file}.")
    name = f"tapetum_plugin_{plain(file.stem)}_{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise TapetumError(f"{file} does not import: {type(error).__name__}: {error}.") from error
    return module
