"""Views in nests of dicts and lists: walk them, change them, set their settings by name."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from tapetum.base.errors import unknown
from tapetum.base.settings import parse
from tapetum.views.operation import Operation, View, hints, pixels


def leaves(tree: Any) -> Iterator[View]:
    """The views in a nest of dicts and lists."""
    if isinstance(tree, dict):
        for part in tree.values():
            yield from leaves(part)
    elif isinstance(tree, list):
        for part in tree:
            yield from leaves(part)
    else:
        yield View() + tree


def tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors in a nest of dicts and lists."""
    if isinstance(tree, Tensor):
        yield tree
    else:
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from tensors(part)


def mapped(tree: Any, f: Any) -> Any:
    """The same nest with `f` of every view."""
    if isinstance(tree, dict):
        return {name: mapped(part, f) for name, part in tree.items()}
    if isinstance(tree, list):
        return [mapped(part, f) for part in tree]
    return f(View() + tree)


def whole_patches(tree: Any, image_size: int, patch: int) -> Any:
    """The nest with every view's size in pixels, rounded to a multiple of `patch` (at least one)."""

    def fit(step: Operation) -> Operation:
        if (size := getattr(step, "size", None)) is None:
            return step
        fitted = max(1, round(pixels(size, image_size) / patch)) * patch
        return replace(step, size=fitted)  # type: ignore[type-var]

    return mapped(tree, lambda view: View(tuple(map(fit, view.steps))))


def largest(tree: Any, image_size: int) -> int:
    """The largest side in pixels that any view of the nest asks for."""
    return max(view.size(image_size) for view in leaves(tree))


def all_steps(steps: Iterable[Operation]) -> Iterator[Operation]:
    """Operations, and those that they are made of."""
    for step in steps:
        yield step
        yield from all_steps(step.inner())


def settings_of(step: Operation) -> dict[str, str]:
    """{"crop.scale": "scale"} for every field of a step that is a setting."""
    kind = type(step).__name__.lower()
    inner = step.inner()
    return {f"{kind}.{f.name}": f.name for f in fields(step) if getattr(step, f.name) is not inner}  # type: ignore[arg-type]


def schema(tree: Any) -> dict[str, Any]:
    """Every setting of the nest as {"crop.scale": value}; what differs between views is a list of values."""
    found: dict[str, list] = {}
    for view in leaves(tree):
        for step in all_steps(view.steps):
            for name, field in settings_of(step).items():
                values = found.setdefault(name, [])
                if (value := getattr(step, field)) not in values:
                    values.append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def configured(tree: Any, settings: dict[str, Any]) -> Any:
    """The nest with settings replaced: {"crop.scale": (0.2, 1.0)}, or {"flip": 0} for its probability; "with"
    adds operations by name at the end of every view: {"with": "erase", "erase.p": 0.2}.

    With several branches ({"large": ..., "small": ...}) a branch's name may stand first: "small.crop.scale".
    Raises TapetumError for a setting that no view has.
    """
    if not isinstance(tree, dict):
        return configured_all(tree, settings)
    own: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        part, _, rest = name.partition(".")
        if part in tree:
            own.setdefault(part, {})[rest] = value
    common = {name: value for name, value in settings.items() if name.partition(".")[0] not in own}
    tree = configured_all(tree, common)
    return tree | {part: configured_all(tree[part], given) for part, given in own.items()}


def configured_all(tree: Any, settings: dict[str, Any]) -> Any:
    """The nest with the settings replaced in every view that has them."""
    settings = dict(settings)
    more = tuple(map(by_name, parse("views.with", settings.pop("with", ()), tuple[str, ...])))
    known = schema(tree) | schema([View((step,)) for step in more])
    for name in settings:
        if name not in known and f"{name}.p" not in known:
            short = [n.removesuffix(".p") for n in known if n.endswith(".p")]
            raise unknown("view setting", name, [*known, *short, "with"])

    def change(step: Operation) -> Operation:
        kind = type(step).__name__.lower()
        names, types = settings_of(step) | {kind: "p"}, hints(type(step))
        new = {names[n]: parse(f"views.{n}", v, types[names[n]]) for n, v in settings.items() if n in names}
        step = replace(step, **new)  # type: ignore[type-var]
        return step.made_of(tuple(map(change, step.inner())))

    return mapped(tree, lambda view: View(tuple(map(change, view.steps + more))))


def by_name(name: str) -> Operation:
    """An operation with its defaults, by its name in any case. Raises TapetumError with the nearest match."""
    from tapetum import views

    found = {n.lower(): kind for n, kind in vars(views).items() if isinstance(kind, type)}
    found = {n: k for n, k in found.items() if issubclass(k, Operation) and k not in (View, views.OneOf)}
    if name.lower() not in found:
        raise unknown("operation", name, found)
    return found[name.lower()]()
