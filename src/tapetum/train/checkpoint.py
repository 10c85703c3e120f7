"""Checkpoints: safetensors and JSON in a folder that appears whole or not at all."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from tapetum.base import distributed
from tapetum.base.console import warn
from tapetum.base.errors import TapetumError
from tapetum.base.files import digest, read_json, short_id, sync, write_json
from tapetum.train import contents, shards
from tapetum.train.sharding import is_split

Taken = TypeVar("Taken")
FORMAT = 2
FILES = ("method.safetensors", "optimizer.safetensors")


def save(
    folder: Path,
    step: int,
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    facts: dict,
    keep: int | None,
) -> Path:
    """Write `folder/step_00000120` and remove all but the newest `keep` checkpoints, none for None.

    All processes call it: the first one writes, or where weights are split each writes what it holds. It is
    written under another name, synced and renamed: a reader never sees a part of it. Raises TapetumError when
    the disk is full, with split weights on all processes alike; earlier checkpoints are then untouched.
    """
    target = folder / f"step_{step:08d}"
    apart, main = is_split(method), distributed.rank() == 0
    if not main and not apart:
        return target
    part = folder / f".{target.name}.part"
    together: Callable[[], AbstractContextManager] = shards.agreed if apart else nullcontext
    try:
        with together():
            if main:
                _begin(folder, part)
        tensors, numbers, groups = contents.of_optimizer(optimizer)
        if apart:
            digests = shards.write(part, contents.of_method(method) | tensors)
        else:
            _write(part / FILES[0], contents.of_method(method))
            _write(part / FILES[1], tensors)
            digests = {name: digest(part / name) for name in FILES}
        state = {"format": FORMAT, "step": step, "files": digests, "optimizer": numbers, "groups": groups}
        with together():
            if main:
                _seal(part, state | facts, target)
    except (OSError, SafetensorError, TapetumError) as error:
        if main:
            shutil.rmtree(part, ignore_errors=True)
        reason = str(error).rstrip(".")
        raise TapetumError(
            f"cannot write the checkpoint {target}: {reason}; earlier checkpoints are untouched."
        ) from error
    if main and keep:
        prune(folder, step, keep)
    return target


def prune(folder: Path, step: int, keep: int) -> None:
    """Of the checkpoints up to a step remove all but the newest `keep`. A run that goes on does so, too: it
    may have been killed when the newest had its name and older ones were still there."""
    for old in [path for path in found(folder) if int(path.name[5:]) <= step][:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def _begin(folder: Path, part: Path) -> None:
    """Make the folder that is written in, and remove what killed runs left of theirs."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(".*.part"):
        shutil.rmtree(stale)
    part.mkdir()


def _seal(part: Path, state: dict[str, Any], target: Path) -> None:
    """Describe the files that are written, and give their folder its name."""
    write_json(part / "state.json", {**state, "digest": short_id(json.loads(json.dumps(state)))})
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)
    sync(target.parent)


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, path)
    sync(path)


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
        contents.restore(path, facts, method, optimizer)
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
    if not isinstance(files, dict) or not (files.keys() >= set(FILES) or shards.complete(files)):
        raise TapetumError(f"state.json does not name {' and '.join(FILES)}, or all of several parts")
    if strange := {p.name for p in path.glob("*.safetensors")} - files.keys():  # parts are read as they lie
        raise TapetumError(f"state.json does not name {min(strange)}")
    for name, wanted in files.items():
        if not re.fullmatch(r"\w[\w.-]*", name) or (path / name).is_symlink() or not (path / name).is_file():
            raise TapetumError(f"{name!r} is no file of its own")
        if digest(path / name) != wanted:
            raise TapetumError(f"{name} is not what was written")
    return facts
