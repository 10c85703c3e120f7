"""A run's settings as a YAML file: `method: simclr` and `method.temperature` stand in one group."""

from pathlib import Path
from typing import Any

import yaml

from tapetum.base import plain_yaml, settings
from tapetum.base.addresses import shown
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_json, write_atomic

GROUPS = ("method", "encoder", "optimizer", "views")
NAMED = ("method", "encoder")  # groups whose owner is itself a setting, `method: simclr`
MACHINE = (  # what may change when a run goes on
    *("devices", "parallel", "grad_checkpointing", "workers", "micro_batch", "eval_every", "test_data"),
    *("log_every", "logger", "checkpoint_steps", "keep_checkpoints", "resume", "out", "stop_when"),
    *("skips", "rollbacks", "read_timeout"),
)
BOUND = ("data", "budget", "plan")  # checked by fingerprint, or only of use before a run
FACTS = ("fingerprint", "method_sha256")  # what the run found out, rather than was told


def write(path: Path, flat: dict[str, Any]) -> None:
    """Write flat settings ({"method": "simclr", "method.hidden": 2048}) as nested YAML, without passwords."""
    flat = {name: shown(value) if isinstance(value, str) else value for name, value in flat.items()}
    first = {name: flat[name] for name in ("data", *FACTS) if name in flat}
    write_atomic(path, yaml.dump(nested(first | flat), Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def read(path: Path) -> dict[str, Any]:
    """Read a YAML file of settings, flat. Raises TapetumError naming the file when it is not one."""
    content = plain_yaml.read(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise TapetumError(f"{path} must hold settings as `name: value`.")
    return flattened(content)


def line_of(path: Path, key: str) -> str:
    """Where a key stands in a file, for a sentence."""
    lines = [
        i for i, line in enumerate(path.read_text().splitlines(), 1) if line.strip(" '\"").startswith(key)
    ]
    return f"line {lines[0]}" if lines else "somewhere"


class _Dumper(yaml.SafeDumper):
    """Lists stand on one line."""


_Dumper.add_representer(list, lambda dumper, x: dumper.represent_sequence("tag:yaml.org,2002:seq", x, True))


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """{"method": "simclr", "method.hidden": 1} -> {"method": {"name": "simclr", "hidden": 1}}."""
    out: dict[str, Any] = {}
    for name, value in flat.items():
        group, _, rest = name.partition(".")
        if group in GROUPS:
            out.setdefault(group, {})[rest or "name"] = value
        else:
            out[name] = value
    return out


def flattened(tree: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `nested`; deeper nesting becomes dots, and `method: simclr` stays itself."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, part: Any) -> None:
        if isinstance(part, dict):
            for name, value in part.items():
                walk(prefix if prefix in NAMED and name == "name" else f"{prefix}.{name}", value)
        else:
            flat[prefix] = part

    for name, value in tree.items():
        walk(str(name), value)
    return flat


def split(flat: dict[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Flat settings -> those of pretrain itself, and those of each group."""
    own = {n: v for n, v in flat.items() if "." not in n and n not in FACTS}
    groups: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    for name, value in flat.items():
        group, dot, rest = name.partition(".")
        if dot:
            groups.setdefault(group, {})[rest] = value
    return own, groups


def parsed(groups: dict[str, dict[str, Any]], method: str) -> dict[str, dict[str, Any]]:
    """The settings of each group, as the method's constructor and OptimizerSettings ask.

    Those of encoder and views are read as what they look like; their owners check them. Raises TapetumError.
    """
    from tapetum.methods import find
    from tapetum.train.optimizer import OptimizerSettings

    kind = find(method)
    given = {name: groups.get(name, {}) for name in GROUPS}
    tuned = settings.check("optimizer setting", given["optimizer"], OptimizerSettings, "optimizer.")
    OptimizerSettings(**tuned)  # checks ranges
    return {
        "method": settings.check(f"setting of {kind.__name__}", given["method"], kind, "method."),
        "encoder": {name: settings.guess(value) for name, value in given["encoder"].items()},
        "optimizer": tuned,
        "views": {name: settings.guess(value) for name, value in given["views"].items()},
    }


def refuse_changes(saved: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise TapetumError naming every learning setting that was given another value than the run's.

    Both are flat and plain; what is None was not given.
    """
    wrong = [
        f"{name} is {saved.get(name)!r} in the run and {value!r} now"
        for name, value in given.items()
        if value is not None and name not in MACHINE and not same(saved.get(name), value)
    ]
    if wrong:
        raise TapetumError(
            f"a run goes on with the settings it began with, but {'; '.join(wrong)}; start a new run instead."
        )


def same(a: Any, b: Any) -> bool:
    """Whether two plain settings mean the same: [1, 2] and (1, 2), 1 and 1.0, text and number."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or str(a) == str(b)


def read_json_list(path: Path) -> list:
    """A JSON list from a file, or an empty one where there is no file."""
    return read_json(path) if path.exists() else []
