"""What a checkpoint keeps of a method and its optimiser, and how it comes back: all of it, or nothing."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tapetum.base.errors import TapetumError
from tapetum.train import shards

COUNTERS = ("step",)  # what an optimiser keeps in its groups: timm's LAMB counts its steps there


def of_method(method: nn.Module) -> dict[str, Tensor]:
    """The state with one name, the first, for each shared tensor."""
    seen: set[int] = set()
    state = {}
    for name, tensor in method.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            state[name] = tensor
    return state


def of_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict, list[dict]]:
    """The optimiser's tensors by `parameter.name`, the rest as JSON, and the counters of its groups."""
    tensors, numbers = {}, {}
    for i, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{i}.{name}"] = value
            else:
                numbers[f"{i}.{name}"] = value
    groups = [counters(group) for group in optimizer.param_groups]
    return tensors, numbers, groups


def counters(group: dict[str, Any]) -> dict[str, int]:
    """What an optimiser counts in one of its groups; timm's LAMB begins with its first step."""
    return {name: group[name] for name in COUNTERS if isinstance(group.get(name), int)}


def restore(path: Path, facts: dict, method: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load a checkpoint in place; memory layouts (channels-last) stay those of the living tensors.

    Into split weights each process reads its own rows. Raises TapetumError when names or shapes differ;
    nothing is changed then.
    """
    weights = _fitting(path, method)
    state = _optimizer_fitting(path, facts, optimizer)
    _fill(method, weights)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for group, counted in zip(optimizer.param_groups, facts["groups"], strict=True):
        group.update(counted)


def restore_method(path: Path, method: nn.Module) -> None:
    """Load the method's part of a checkpoint alone, as `restore` does."""
    _fill(method, _fitting(path, method))


@torch.no_grad()
def _fill(method: nn.Module, weights: dict[str, Tensor]) -> None:
    own = method.state_dict(keep_vars=True)
    for name, tensor in weights.items():
        own[name].copy_(tensor)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:  # a run that goes on removes old ones
        raise TapetumError(f"the checkpoint {path.parent} cannot be read: {error}.") from error


def _fitting(path: Path, method: nn.Module) -> dict[str, Tensor]:
    """The method's tensors, all of which have a place in it."""
    wanted = of_method(method)
    apart = shards.needed(path, wanted.values())
    saved = shards.found(path, of_optimizer=False) if apart else _read(path / "method.safetensors")
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
    return shards.read(path, {name: torch.empty_like(t) for name, t in wanted.items()}) if apart else saved


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _optimizer_fitting(path: Path, facts: dict, optimizer: torch.optim.Optimizer) -> dict[int, dict]:
    """The optimiser's state by the number of its parameter, once each part is found to fit."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers, groups = facts.get("optimizer"), facts.get("groups")
    if not isinstance(numbers, dict) or not isinstance(groups, list):
        raise TapetumError(f"the checkpoint {path} does not describe an optimiser.")
    fits = [isinstance(group, dict) and counters(group).keys() == group.keys() for group in groups]
    if not all(fits) or len(groups) != len(optimizer.param_groups):
        raise TapetumError(f"the checkpoint {path} is of another optimiser.")
    apart = shards.needed(path, parameters)
    saved = shards.found(path, of_optimizer=True) if apart else _read(path / "optimizer.safetensors")
    made = {}
    for key, value in {**saved, **numbers}.items():
        number, _, name = key.partition(".")
        if not (number.isdecimal() and name and int(number) < len(parameters)):
            raise TapetumError(f"the checkpoint {path} holds {key}, which this optimiser does not have.")
        if isinstance(value, Tensor):
            made[key] = _place(path, key, value, parameters[int(number)])
    if apart:
        shards.read(path, made)
    else:
        made = {key: place.copy_(saved[key]) for key, place in made.items()}
    state: dict[int, dict] = {}
    for key, value in {**made, **numbers}.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    return state


def _place(path: Path, key: str, saved: Tensor, p: Tensor) -> Tensor:
    """An empty tensor for what an optimiser keeps of a parameter: in its memory layout, split as it is."""
    if saved.shape == p.shape:
        return torch.empty_like(p, dtype=saved.dtype)
    if saved.numel() != 1:
        raise TapetumError(
            f"the checkpoint {path} holds {key} as {_kind(saved)}, its parameter is {_kind(p)}."
        )
    return torch.empty(saved.shape, dtype=saved.dtype)
