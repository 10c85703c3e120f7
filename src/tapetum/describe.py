"""What the methods are, in words; the skeleton of a new one; and the conformance suite's report."""

import ast
import inspect
from pathlib import Path
from typing import Any

from tapetum.base import console
from tapetum.base.errors import TapetumError, unknown
from tapetum.base.files import write_atomic
from tapetum.methods import catalogue, plain


def all_methods() -> list[dict[str, Any]]:
    """Every method, as a table and as data."""
    found = [{"name": e.name, "family": e.family, "idea": e.line, "source": e.source} for e in catalogue().values()]
    console.table([list(row.values()) for row in found], ("method", "family", "idea", "source"))
    return found


def one_method(name: str) -> dict[str, Any]:
    """One method with its settings, views and source, read from its file without running it."""
    known = {plain(n): entry for n, entry in catalogue().items()}
    if plain(name) not in known:
        raise unknown("method", name, catalogue())
    entry = known[plain(name)]
    kind = next(n for n in ast.parse(entry.file.read_text()).body if isinstance(n, ast.ClassDef))
    meanings = _meanings(ast.get_docstring(kind) or "")
    init = next(n for n in kind.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    settings = []
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults):
        value = ast.unparse(default) if default is not None else "from the data"
        settings.append({"name": argument.arg, "default": value, "meaning": meanings.get(argument.arg, "")})
    views = next(
        ast.unparse(n.value)
        for n in ast.walk(init)
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "self.views"
    )
    product = next((n for n in kind.body if isinstance(n, ast.FunctionDef) and n.name == "product"), None)
    exported = ast.unparse(product.body[-1]).removeprefix("return ") if product else "self.encoder"
    console.say(f"{entry.name}: {entry.line} {entry.source}")
    console.table([list(s.values()) for s in settings], ("--method.", "default", "meaning"))
    console.say(f"views: {views}")
    console.say(f"exported: {exported}")
    console.say(f"file: {entry.file}")
    return {
        "name": entry.name,
        "family": entry.family,
        "idea": entry.line,
        "source": entry.source,
        "settings": settings,
        "views": views,
        "exported": exported,
        "file": str(entry.file),
    }


def _meanings(doc: str) -> dict[str, str]:
    """The lines `name: meaning` of a docstring."""
    pairs = (line.strip().partition(": ") for line in inspect.cleandoc(doc).splitlines())
    return {name: meaning for name, _, meaning in pairs if name.isidentifier() and meaning}


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
        console.say(f"{'ok    ' if problem is None else 'BROKEN'}  {what}" + (f"\n        {problem}" if problem else ""))
        rows.append({"check": what, "problem": problem})
        wrong += [problem] if problem else []
    if wrong:
        raise TapetumError(f"{name} fails {len(wrong)} of {len(rows)} checks; the first: {wrong[0]}")
    return {"method": name, "checks": rows}
