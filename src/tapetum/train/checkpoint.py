"""Checkpoints: safetensors and JSON in a folder that appears whole or not at all."""

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tapetum.base.console import warn
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_json, sync, write_json

FORMAT = 1
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
        write_json(
            part / "state.json",
            {
                "format": FORMAT,
                "step": step,
                "files": digests,
                "optimizer": numbers,
                "groups": groups,
                **facts,
            },
        )
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
        sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise TapetumError(
            f"cannot write the checkpoint {target}: {error}; earlier checkpoints are untouched."
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
    groups = [{n: g[n] for n in COUNTERS if n in g} for g in optimizer.param_groups]
    return tensors, numbers, groups


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def found(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(p for p in folder.glob("step_*") if re.fullmatch(r"step_\d+", p.name))


def newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is whole, and its facts; damaged ones are named and passed over."""
    for path in reversed(found(folder)):
        try:
            facts = read_json(path / "state.json")
            if not isinstance(facts, dict):
                raise TapetumError("state.json does not describe a checkpoint")
            if facts.get("format") != FORMAT:
                raise TapetumError(f"its format is {facts.get('format')}, this version reads {FORMAT}")
            for name, wanted in facts["files"].items():
                if Path(name).name != name or not (path / name).is_file():
                    raise TapetumError(f"it has no file {name}")
                if digest(path / name) != wanted:
                    raise TapetumError(f"{name} is not what was written")
            return path, facts
        except (TapetumError, OSError, KeyError, TypeError, AttributeError) as error:
            warn(f"the checkpoint {path} is damaged ({error}); going back to the one before it.")
    if damaged := found(folder):
        raise TapetumError(
            f"none of the {len(damaged)} checkpoints in {folder} is whole; start the run anew."
        )
    return None


def restore(path: Path, facts: dict, method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load a checkpoint in place; memory layouts (channels-last) stay those of the living tensors.

    Raises TapetumError when names or shapes differ.
    """
    restore_method(path, method)
    try:
        _restore_optimizer(path, facts["optimizer"], optimizer)
        for group, counters in zip(optimizer.param_groups, facts["groups"], strict=True):
            group.update(counters)
    except Exception as error:  # whatever a stranger's facts make of an optimiser
        raise TapetumError(f"the checkpoint {path} is of another optimiser: {error}.") from error


def restore_method(path: Path, method: nn.Module) -> None:
    """Load the method's part of a checkpoint alone, as `restore` does."""
    own = method.state_dict(keep_vars=True)
    try:
        saved = load_file(path / "method.safetensors")
    except (OSError, SafetensorError) as error:  # a run that goes on removes old ones
        raise TapetumError(f"the checkpoint {path} cannot be read: {error}.") from error
    wanted = _canonical(method)
    if saved.keys() != wanted.keys():
        odd = sorted(saved.keys() ^ wanted.keys())
        raise TapetumError(
            f"the checkpoint {path} is of another method: {odd[0]} and {len(odd) - 1} more differ."
        )
    with torch.no_grad():
        for name, tensor in saved.items():
            if own[name].shape != tensor.shape:
                raise TapetumError(
                    f"the checkpoint {path} holds {name} as {list(tensor.shape)}, "
                    f"here it is {list(own[name].shape)}."
                )
            own[name].copy_(tensor)


def _restore_optimizer(path: Path, numbers: dict, optimizer: torch.optim.Optimizer) -> None:
    state: dict[int, dict] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in {**load_file(path / "optimizer.safetensors"), **numbers}.items():
        i, _, name = key.partition(".")
        p = parameters[int(i)]
        if isinstance(value, torch.Tensor) and value.shape == p.shape:
            value = torch.empty_like(p, dtype=value.dtype).copy_(value)  # in the parameter's memory layout
        state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
