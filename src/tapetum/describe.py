"""What the methods are, in words; the skeleton of a new one; and the conformance suite's report."""

from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from inspect import getdoc
from pathlib import Path
from typing import Any

from tapetum.base import console, settings
from tapetum.base.errors import TapetumError
from tapetum.base.files import write_atomic
from tapetum.methods import catalogue, described, find, plain


def all_methods() -> list[dict[str, Any]]:
    """Every method, as a table and as data."""
    found = [
        {
            "name": e.name,
            "family": e.family,
            "idea": e.line,
            "exported": e.exported,
            "source": e.source,
        }
        for e in catalogue().values()
    ]
    console.table([list(row.values()) for row in found], ("method", "family", "idea", "exported", "source"))
    return found


def one_method(name: str) -> dict[str, Any]:
    """One method: its source, its settings and those of views and optimiser, its views, what is exported."""
    from tapetum.train import sandbox, setup
    from tapetum.train.optimizer import OptimizerSettings

    kind = find(name)
    own = name.endswith(".py")
    entry = described(Path(name)) if own else {plain(n): e for n, e in catalogue().items()}[plain(name)]
    given = {"images": 10_000} if "images" in settings.allowed(kind) else {}  # enough for any prototypes
    method = setup.build_method(kind, sandbox.small_encoder(kind.needs), sandbox.source(), 32, given)
    found: dict[str, Any] = {
        "name": entry.name,
        "family": entry.family,
        "idea": entry.line,
        "source": entry.source,
        "settings": listed(kind),
        "views": in_words(method.views),
        "view settings": view_settings(method.views),
        "optimizer settings": listed(OptimizerSettings),
        "exported": entry.exported,
        "file": str(entry.file),
    }
    console.say(f"{entry.name}: {entry.line} {entry.source}\n")
    console.table([list(row.values()) for row in found["settings"]], ("--method.", "default", "meaning"))
    console.say("defaults are the paper's, unless the meaning says otherwise\n\nviews:")
    for line in found["views"]:
        console.say(f"  {line}")
    console.say()
    console.table(list(found["view settings"].items()), ("--views.", "default"))
    console.say()
    console.table(
        [list(r.values()) for r in found["optimizer settings"]], ("--optimizer.", "default", "meaning")
    )
    console.say(f"\nexported: {found['exported']}\nfile: {entry.file}")
    return found


def all_protocols() -> list[dict[str, Any]]:
    """Every protocol and suite, as a table and as data."""
    from tapetum.evaluate import protocols, suites

    found = [{"name": name, "what": protocols.idea(name)} for name in protocols.names()]
    for name in suites.names():
        suite = suites.outline(name)
        sets = f" on {len(suite['data'])} sets of images" if suite["data"] else ""
        found.append({"name": name, "what": f"suite of {', '.join(suite['protocols'])}{sets}"})
    console.table([list(row.values()) for row in found], ("protocol", "what it measures"))
    return found


def one_protocol(name: str) -> dict[str, Any]:
    """One protocol: what it does and its settings. Of a suite, its protocols and sets of images."""
    from tapetum.evaluate import protocols, suites

    if name in suites.names():
        suite = suites.outline(name)
        console.say(f"{name}: {suite['what']}\n\nprotocols: {', '.join(suite['protocols'])}")
        if suite["data"]:
            console.table(suite["data"], ("images", "group"))
        return {"name": name, **suite}
    protocol = protocols.find(name)
    found: dict[str, Any] = {"name": name, "what": protocols.idea(name), "settings": listed(protocol)}
    console.say(f"{name}: {found['what']}\n")
    before, _, _ = (getdoc(protocol) or "").partition("Args:")
    console.say(" ".join(before.split()) + "\n")
    console.table([list(row.values()) for row in found["settings"]], (f"--{name}.", "default", "meaning"))
    return found


def listed(owner: Callable) -> list[dict[str, Any]]:
    """The settings of a class or function, each with its default and what its docstring says of it."""
    _, meanings, _ = settings.documented(owner)
    rows = []
    for name, p in settings.allowed(owner).items():
        default = "from the data" if p.default is p.empty else typed(p.default)
        rows.append({"name": name, "default": default, "meaning": meanings.get(name, "")})
    return rows


def typed(value: Any) -> str:
    """A setting as one types it: 0.2,1 or 0.996->1.0."""
    if isinstance(value, tuple | list):
        return ",".join(map(typed, value))
    return "open" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def view_settings(tree: Any) -> dict[str, str]:
    """The settings of a nest of views; one that differs between branches stands with the branch's name."""
    from tapetum.views.nest import schema

    shown = {
        name: " or ".join(map(typed, value)) if isinstance(value, list) else typed(value)
        for name, value in schema(tree).items()
    }
    if not isinstance(tree, dict):
        return shown
    branches = {branch: view_settings(part) for branch, part in tree.items()}
    found = {}
    for name, value in shown.items():
        if all(own.get(name) == value for own in branches.values()):
            found[name] = value
        else:
            found |= {f"{branch}.{name}": own[name] for branch, own in branches.items() if name in own}
    return found


def in_words(tree: Any, name: str = "") -> list[str]:
    """A nest of views, a line for each kind of view: `large: 2 x Crop(...) + Flip(...)`."""
    if isinstance(tree, dict):
        return [line for part, inner in tree.items() for line in in_words(inner, f"{name}{part}: ")]
    if isinstance(tree, list):
        counts = Counter(in_words(view)[0] for view in tree)
        return [f"{name}{count} x {view}" if count > 1 else name + view for view, count in counts.items()]
    return [name + " + ".join(map(_brief, getattr(tree, "steps", (tree,))))]


def _brief(step: Any) -> str:
    """An operation, without what is as in its definition: `Crop(scale=(0.2, 1.0))`."""
    changed = [f for f in fields(step) if getattr(step, f.name) != f.default]
    return f"{type(step).__name__}({', '.join(f'{f.name}={getattr(step, f.name)}' for f in changed)})"


SKELETON = '''"""Say the idea in one sentence here. arXiv:XXXX.XXXXX"""

from torch.nn import functional as F

from tapetum import views
from tapetum.methods.method import Method
from tapetum.parts.heads import mlp
from tapetum.parts.losses import across, cosine_distance


class {name}(Method):
    """Args:
    hidden: width of the hidden layers of projector and predictor.
    dim: width of what they give.
    """

    # This skeleton is SimSiam (arXiv:2011.10566): predict one view's projection from the other's, and let no
    # gradient flow into what is predicted. Replace what is yours.

    def __init__(self, encoder, *, hidden: int = 2048, dim: int = 256):
        super().__init__(encoder)
        self.views = {{"views": 2 * [views.simclr()]}}  # the batch has the same names and nesting
        self.projector = mlp(encoder.dim, hidden, dim)
        self.predictor = mlp(dim, hidden // 4, dim)

    def loss(self, batch, t):  # t: progress of the training in [0, 1]
        z = [self.projector(self.encoder(x)) for x in batch["views"]]  # 2 x [B, D]
        said = [self.predictor(x) for x in z]
        loss = across(cosine_distance, said, [x.detach() for x in z])
        spread = F.normalize(z[0].detach(), dim=1).std(0).mean()  # any other number is logged
        return {{"loss": loss, "spread": spread}}

    # What must outlive a step is a submodule or a buffer, and changes here:
    # def after_step(self, t, keep): ...
'''


def new_method(file: Path) -> dict[str, Any]:
    """Write a working method to start from. Refuses to overwrite."""
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise TapetumError(f"{file} must be a Python file whose name is a Python name, such as mine.py.")
    if file.exists():
        raise TapetumError(f"{file} exists already; choose another name.")
    write_atomic(file, SKELETON.format(name="".join(part.title() for part in file.stem.split("_"))))
    console.say(f"wrote {file}, a working method to change. Then:")
    console.say(f"  tapetum check {file}")
    console.say(f"  tapetum pretrain DATA --method {file} --out RUN")
    return {"file": str(file)}


def check_method(name: str) -> dict[str, Any]:
    """Run every check on a method and print what holds and what does not; TapetumError when one fails."""
    from tapetum.train.check import check

    rows, wrong = [], []
    for what, problem in check(name):
        console.say(
            f"{'ok    ' if problem is None else 'BROKEN'}  {what}"
            + (f"\n        {problem}" if problem else "")
        )
        rows.append({"check": what, "problem": problem})
        wrong += [problem] if problem else []
    if wrong:
        raise TapetumError(f"{name} fails {len(wrong)} of {len(rows)} checks; the first: {wrong[0]}")
    return {"method": name, "checks": rows}
