"""Every method is short, says what its settings mean, has a test of its mathematics and a recipe."""

import ast
import inspect
from pathlib import Path
from statistics import median

import pytest

from tapetum.base.settings import documented
from tapetum.methods import catalogue, find, names
from tapetum.train import sandbox

ROOT = Path(__file__).parent.parent.parent
TESTED = "\n".join(file.read_text() for file in sorted((ROOT / "tests" / "methods").glob("test_*.py")))


def lines_of_code(text: str) -> int:
    """Lines that are neither empty nor comments nor docstrings."""
    told: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            told |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for i, line in lines if i not in told and line.strip() and line.strip()[0] != "#")


def test_lines_of_code_are_counted_without_words():
    assert lines_of_code('"""A.\n\nB."""\n\nimport ast  # why\n\n# what\nx = """no\ndocstring"""\n') == 3


def test_methods_are_short():
    lines = {name: lines_of_code(entry.file.read_text()) for name, entry in catalogue().items()}
    assert median(lines.values()) <= 45 and max(lines.values()) <= 120, lines


@pytest.mark.parametrize("name", names())
def test_a_method_is_described_tested_and_has_a_recipe(name):
    entry, kind = catalogue()[name], find(name)
    assert entry.line.endswith(".") and entry.source.startswith("arXiv:"), entry
    wanted = {p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert set(documented(kind)[1]) == wanted
    made = sandbox.build(kind)
    owner = next(n for n, m in made.named_modules() if m is made.product())
    assert entry.exported == owner.partition(".")[0]
    assert f'"{name}"' in TESTED, f"no test in tests/methods names {name}"
    assert (ROOT / "recipes" / "two-minutes" / f"{name}.yaml").exists()
