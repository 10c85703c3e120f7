"""Checkpoints: safetensors and JSON in a folder that appears whole or not at all."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tapetum.base.console import warn
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_json, short_id, sync, write_json

Taken = TypeVar("Taken")
FORMAT = 2
FILES = ("method.safetensors", "optimizer.safetensors")
COUNTERS = ("step",)  # what an optimiser keeps in its groups: timm's LAMB counts its steps there


def save(
    folder: Path, step: int, method: nn.Module, optimizer: torch.optim.Optimizer, facts: dict, keep: int
) -> Path:
    """Write `folder/step_00000120` and remove all but the newest `keep` checkpoints.

    It is written under another name, synced and renamed: a reader never sees a part of it. Raises
    TapetumError when the disk is full; earlier checkpoints are then untouched.
    """
    target = folder / f"step_{step:08d}"
    part = folder / f".{target.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(".*.part"):
            shutil.rmtree(stale)
        part.mkdir()
        tensors, numbers, groups = _optimizer_state(optimizer)
        _write(part / "method.safetensors", _canonical(method))
        _write(part / "optimizer.safetensors", tensors)
        digests = {p.name: digest(p) for p in sorted(part.glob("*.safetensors"))}
        state = {"format": FORMAT, "step": step, "files": digests, "optimizer": numbers, "groups": groups}
        state |= facts
        write_json(part / "state.json", {**state, "digest": short_id(json.loads(json.dumps(state)))})
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
        sync(folder)
    except (OSError, SafetensorError, TapetumError) as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = str(error).rstrip(".")
        raise TapetumError(
            f"cannot write the checkpoint {target}: {reason}; earlier checkpoints are untouched."
        ) from error
    for old in found(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
    sync(path)


def _canonical(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state with one name, the first, for each shared tensor."""
    seen: set[tuple] = set()
    state = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))  # type: ignore[arg-type]
            state[name] = tensor
    return state


def _optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict, list[dict]]:
    """The optimiser's tensors by `parameter.name`, the rest as JSON, and the counters of its groups."""
    tensors, numbers = {}, {}
    for i, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{i}.{name}"] = value
            else:
                numbers[f"{i}.{name}"] = value
    groups = [counters(group) for group in optimizer.param_groups]
    return tensors, numbers, groups


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def counters(group: dict[str, Any]) -> dict[str, int]:
    """What an optimiser counts in one of its groups; timm's LAMB begins with its first step."""
    return {name: group[name] for name in COUNTERS if isinstance(group.get(name), int)}


def found(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(p for p in folder.glob("step_*") if re.fullmatch(r"step_\d+", p.name))


def newest(folder: Path, run: str | None = None) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is whole, and its facts; damaged ones are named and passed over.

    run: what names the run that it must be of, as in its facts; None takes any.
    """
    return _first(folder, lambda path: (path, facts_of(path, run)))


def load(
    folder: Path, method: nn.Module, optimizer: torch.optim.Optimizer, run: str | None = None
) -> dict[str, Any] | None:
    """Restore the newest checkpoint that is whole and fits, and give its facts; None where there is none."""

    def restored(path: Path) -> dict[str, Any]:
        facts = facts_of(path, run)
        restore(path, facts, method, optimizer)
        return facts

    return _first(folder, restored)


def _first(folder: Path, take: Callable[[Path], Taken]) -> Taken | None:
    """What `take` gives for the newest checkpoint for which it raises nothing."""
    reason = ""
    for path in reversed(found(folder)):
        try:
            return take(path)
        except (TapetumError, OSError, ValueError) as error:
            reason = str(error).rstrip(".")
            warn(f"the checkpoint {path} is damaged ({reason}); going back to the one before it.")
    if damaged := found(folder):
        raise TapetumError(
            f"none of the {len(damaged)} checkpoints in {folder} is whole; start the run anew "
            f"(of the last: {reason})."
        )
    return None


def facts_of(path: Path, run: str | None = None) -> dict[str, Any]:
    """What stands in a checkpoint's state.json, once all is found to be as it was written. Raises
    TapetumError."""
    facts = read_json(path / "state.json")
    if not isinstance(facts, dict):
        raise TapetumError("state.json does not describe a checkpoint")
    if facts.get("format") != FORMAT:
        raise TapetumError(f"its format is {facts.get('format')}, this version reads {FORMAT}")
    if facts.pop("digest", None) != short_id(facts):
        raise TapetumError("state.json is not what was written")
    if facts.get("step") != int(path.name.removeprefix("step_")):
        raise TapetumError(f"it says that it is of step {facts.get('step')}")
    if run is not None and facts.get("run") != run:
        raise TapetumError("it is of another run, or of other settings")
    files = facts.get("files")
    if not isinstance(files, dict) or not files.keys() >= set(FILES):
        raise TapetumError(f"state.json does not name {' and '.join(FILES)}")
    for name, wanted in files.items():
        if not re.fullmatch(r"\w[\w.-]*", name) or (path / name).is_symlink() or not (path / name).is_file():
            raise TapetumError(f"{name!r} is no file of its own")
        if digest(path / name) != wanted:
            raise TapetumError(f"{name} is not what was written")
    return facts


def restore(path: Path, facts: dict, method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load a checkpoint in place; memory layouts (channels-last) stay those of the living tensors.

    Raises TapetumError when names or shapes differ; nothing is changed then.
    """
    weights = _fitting(path, method)
    state = _optimizer_fitting(path, facts, optimizer)
    _fill(method, weights)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for group, counters in zip(optimizer.param_groups, facts["groups"], strict=True):
        group.update(counters)


def restore_method(path: Path, method: nn.Module) -> None:
    """Load the method's part of a checkpoint alone, as `restore` does."""
    _fill(method, _fitting(path, method))


@torch.no_grad()
def _fill(method: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    own = method.state_dict(keep_vars=True)
    for name, tensor in weights.items():
        own[name].copy_(tensor)


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:  # a run that goes on removes old ones
        raise TapetumError(f"the checkpoint {path.parent} cannot be read: {error}.") from error


def _fitting(path: Path, method: nn.Module) -> dict[str, torch.Tensor]:
    """The method's tensors, all of which have a place in it."""
    saved, wanted = _read(path / "method.safetensors"), _canonical(method)
    if saved.keys() != wanted.keys():
        odd = sorted(saved.keys() ^ wanted.keys())
        raise TapetumError(
            f"the checkpoint {path} is of another method: {odd[0]} and {len(odd) - 1} more differ."
        )
    for name, tensor in saved.items():
        if wanted[name].shape != tensor.shape or wanted[name].dtype != tensor.dtype:
            raise TapetumError(
                f"the checkpoint {path} holds {name} as {_kind(tensor)}, here it is {_kind(wanted[name])}."
            )
    return saved


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _optimizer_fitting(path: Path, facts: dict, optimizer: torch.optim.Optimizer) -> dict[int, dict]:
    """The optimiser's state by the number of its parameter, once each part is found to fit."""
    state: dict[int, dict] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers, groups = facts.get("optimizer"), facts.get("groups")
    if not isinstance(numbers, dict) or not isinstance(groups, list):
        raise TapetumError(f"the checkpoint {path} does not describe an optimiser.")
    fits = [isinstance(group, dict) and counters(group).keys() == group.keys() for group in groups]
    if not all(fits) or len(groups) != len(optimizer.param_groups):
        raise TapetumError(f"the checkpoint {path} is of another optimiser.")
    for key, value in {**_read(path / "optimizer.safetensors"), **numbers}.items():
        number, _, name = key.partition(".")
        if not (number.isdecimal() and name and int(number) < len(parameters)):
            raise TapetumError(f"the checkpoint {path} holds {key}, which this optimiser does not have.")
        p = parameters[int(number)]
        if isinstance(value, torch.Tensor) and value.shape == p.shape:
            value = torch.empty_like(p, dtype=value.dtype).copy_(value)  # in the parameter's memory layout
        elif isinstance(value, torch.Tensor) and value.numel() != 1:
            raise TapetumError(
                f"the checkpoint {path} holds {key} as {_kind(value)}, its parameter is {_kind(p)}."
            )
        state.setdefault(int(number), {})[name] = value
    return state
