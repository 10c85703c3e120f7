"""The rows of tensors in nests: some of them, or those of several nests joined."""

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor


def taken(tree: Any, part: slice) -> Any:
    """The nest with these rows of each tensor [B, ...] in it; what is no tensor stays as it is."""
    if isinstance(tree, Tensor):
        return tree[part]
    return [taken(one, part) for one in tree] if isinstance(tree, list) else tree


def joined(parts: list) -> Any:
    """Nests of one form, as one: tensors joined along the first axis, and of all else what the first has."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if isinstance(first, dict):
        return {name: joined([part[name] for part in parts]) for name in first}
    if isinstance(first, list | tuple):
        whole = [joined(list(same)) for same in zip(*parts)]
        return type(first)(*whole) if hasattr(first, "_fields") else type(first)(whole)
    if is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in fields(first)]
        return type(first)(**{name: joined([getattr(part, name) for part in parts]) for name in names})
    return first
