"""The rules of the tree: imports point downwards, files are small and say their purpose, none unpickles."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "tapetum"
MOST_LINES = 300

LAYERS = [  # from the top down; a folder or file imports from its own layer and from those below
    {"__main__"},
    {"cli"},
    {
        "verbs",
        "ablating",
        "ablation",
        "images",
        "classifiers",
        "measuring",
        "pages",
        "comparing",
        "finding",
        "sweeping",
        "demo",
        "describe",
        "inspecting",
        "__init__",
    },
    {"report"},
    {"adapt"},
    {"evaluate"},
    {"train"},
    {"methods"},
    {"parts"},
    {"features"},
    {"encoders"},
    {"views"},
    {"data"},
    {"measure"},
    {"base"},
]
DEPTH = {name: depth for depth, names in enumerate(LAYERS) for name in names}
UNPICKLING = {"_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
HARMLESS = {"UnpicklingError", "PicklingError", "PickleError"}  # all that is wanted of pickle
OF_A_MACHINE = re.compile(r"(?<![\w.~<:])/(?:home|root|Users|work|tmp)/[\w.-]+")


def python_files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def part(source: Path, path: Path) -> str:
    """The layer's name of a file: its first folder, or its own name beside `__init__.py`."""
    return path.relative_to(source).with_suffix("").parts[0]


def imported(source: Path, path: Path) -> Iterator[tuple[int, str]]:
    """(line, name of the part) for each import of tapetum in a file, those inside functions too."""
    package = ["tapetum", *path.relative_to(source).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            modules = [f"{stem}.{alias.name}" for alias in node.names] if stem == "tapetum" else [stem]
        else:
            continue
        for module in modules:
            first, *rest = module.split(".")
            if first == "tapetum":
                name = rest[0] if rest else "__init__"
                yield node.lineno, name if name in DEPTH else "__init__"  # `from tapetum import load`: a verb


def upward_imports(source: Path) -> list[str]:
    wrong = []
    for path in python_files(source):
        here = part(source, path)
        if here not in DEPTH:
            wrong.append(f"{path.relative_to(source)}: {here} stands in no layer; name it in LAYERS")
            continue
        for line, there in imported(source, path):
            if DEPTH[there] < DEPTH[here]:
                wrong.append(f"{path.relative_to(source)}:{line} imports {there}, which lies above {here}")
    return wrong


def nameless(*folders: Path) -> list[str]:
    """Files whose first line is not the docstring that says what they are for."""
    wrong = []
    for path in python_files(*folders):
        purpose = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0]
        if len(purpose.split()) < 3 or not path.read_text().startswith(('"""', 'r"""')):
            wrong.append(str(path))
    return wrong


def too_long(*folders: Path) -> list[str]:
    counts = {path: path.read_text().count("\n") for path in python_files(*folders)}
    return [f"{path}: {lines} lines" for path, lines in counts.items() if lines > MOST_LINES]


def machine_paths(root: Path) -> list[str]:
    """Lines that name a place on somebody's machine."""
    folders = ("src", "tests", "docs", "benchmarks", "recipes", ".ci")
    files = [path for folder in folders for path in (root / folder).rglob("*")] + list(root.glob("*"))
    kinds = {".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".json", ".jsonl", ".csv", ""}
    wrong = []
    for path in files:
        if path.is_file() and path.suffix in kinds and path.name != ".git":
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                if OF_A_MACHINE.search(line):
                    wrong.append(f"{path.relative_to(root)}:{number}: {line.strip()[:100]}")
    return wrong


def called(node: ast.Call) -> str:
    """'torch.load' for torch.load(...), 'eval' for eval(...)."""
    return ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""


def safe_loaders(tree: ast.AST) -> set[str]:
    """YAML's safe loader, and what a file derives from it."""
    own = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and [ast.unparse(base) for base in node.bases] == ["yaml.SafeLoader"]
    }
    return {"yaml.SafeLoader", *own}


def unsafe(node: ast.AST, loaders: set[str]) -> str | None:
    """What a piece of code does that could run a stranger's code, or None."""
    if isinstance(node, ast.Import):
        found = UNPICKLING & {alias.name.split(".")[0] for alias in node.names}
        return f"imports {found.pop()}" if found else None
    if isinstance(node, ast.ImportFrom):
        wanted = {alias.name for alias in node.names} - HARMLESS if node.module == "pickle" else set()
        return f"imports from {node.module}" if wanted or node.module in UNPICKLING else None
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
        return None if node.attr in HARMLESS else f"uses pickle.{node.attr}"
    if not isinstance(node, ast.Call):
        return None
    name, given = called(node), {k.arg: k.value for k in node.keywords}

    def says(key: str, value: bool) -> bool:
        return isinstance(given.get(key), ast.Constant) and given[key].value is value  # type: ignore[attr-defined]

    if name in {"eval", "exec", "builtins.eval", "builtins.exec"}:
        return f"calls {name}"
    if name == "torch.load" and not says("weights_only", True):
        return "calls torch.load without weights_only=True"
    if name in {"yaml.load", "yaml.load_all"}:
        loader = given.get("Loader")
        return None if loader and ast.unparse(loader) in loaders else f"calls {name} without a safe loader"
    if name in {"yaml.unsafe_load", "yaml.full_load"}:
        return f"calls {name}"
    if "allow_pickle" in given and not says("allow_pickle", False):
        return f"calls {name} with allow_pickle"
    return None


def unsafe_calls(source: Path) -> list[str]:
    wrong = []
    for path in python_files(source):
        tree = ast.parse(path.read_text())
        loaders = safe_loaders(tree)
        for node in ast.walk(tree):
            if what := unsafe(node, loaders):
                wrong.append(f"{path.relative_to(source)}:{getattr(node, 'lineno', '?')} {what}")
    return wrong


# ---- the rules hold ----


def test_imports_point_only_downwards():
    assert upward_imports(SOURCE) == []


def test_every_file_says_first_what_it_is_for():
    assert nameless(SOURCE, ROOT / "tests", ROOT / "benchmarks", ROOT / "docs") == []


def test_files_are_read_at_one_sitting():
    assert too_long(SOURCE, ROOT / "benchmarks", ROOT / "docs") == []


def test_nothing_names_a_place_on_one_machine():
    assert machine_paths(ROOT) == []


def test_nothing_runs_a_strangers_code():
    assert unsafe_calls(SOURCE) == []


# ---- and each check can fail ----


def plant(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "name, text",
    [
        ("base/bad.py", "from tapetum.data import open_data"),
        ("data/bad.py", "import tapetum.views.engine"),
        ("measure/bad.py", "def f():\n    from tapetum.data.open import open_data"),
        ("parts/bad.py", "from tapetum import methods"),
        ("train/bad.py", "from tapetum import pretrain"),
        ("views/deep/bad.py", "from ... import encoders"),
        ("views/bad.py", "from ..encoders import load"),
        ("verbs.py", "import tapetum.cli"),
        ("newcomer.py", "x = 1"),
    ],
)
def test_an_import_that_points_upwards_is_found(tmp_path, name, text):
    plant(tmp_path, "base/good.py", "from tapetum.base import errors")
    plant(tmp_path, "views/good.py", "from .engine import draw\nfrom tapetum.base import random")
    assert upward_imports(tmp_path) == []
    plant(tmp_path, name, text)
    assert len(upward_imports(tmp_path)) == 1


@pytest.mark.parametrize("text", ["", "x = 1\n", '# a comment\n"""A purpose, but on the second line."""\n'])
def test_a_file_without_a_purpose_is_found(tmp_path, text):
    bad = plant(tmp_path, "bad.py", text)
    plant(tmp_path, "good.py", '"""A file that says what it is for."""\n')
    assert nameless(tmp_path) == [str(bad)]


def test_a_long_file_is_found(tmp_path):
    plant(tmp_path, "good.py", "x = 1\n" * MOST_LINES)
    plant(tmp_path, "bad.py", "x = 1\n" * (MOST_LINES + 1))
    assert [line.split(":")[0] for line in too_long(tmp_path)] == [str(tmp_path / "bad.py")]


@pytest.mark.parametrize("place", ["home/somebody", "root/x", "Users/me", "tmp/run"])
def test_a_place_on_one_machine_is_found(tmp_path, place):
    plant(tmp_path, "docs/good.md", "see ~/.cache/tapetum and src/root/x, https://example.org/home/page\n")
    assert machine_paths(tmp_path) == []
    plant(tmp_path, "docs/bad.md", f"see /{place}/file\n")
    assert len(machine_paths(tmp_path)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\npickle.loads(data)",
        "from pickle import Unpickler",
        "def f():\n    from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text, Loader)",
        "yaml.load(text, Loader=yaml.Loader)",
        "class L(yaml.Loader): ...\nyaml.load(text, Loader=L)",
        "yaml.unsafe_load(text)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "eval(text)",
        "exec(text)",
    ],
)
def test_what_could_run_a_strangers_code_is_found(tmp_path, text):
    good = ["import pickle", "pickle.UnpicklingError", "torch.load(p, weights_only=True)", "m.eval()"]
    good += ["np.load(p, allow_pickle=False)", "yaml.safe_load(t)"]
    good += ["class L(yaml.SafeLoader): ...", "yaml.load(t, Loader=L)"]
    plant(tmp_path, "good.py", "\n".join(good))
    assert unsafe_calls(tmp_path) == []
    plant(tmp_path, "bad.py", text)
    assert len(unsafe_calls(tmp_path)) == 1
