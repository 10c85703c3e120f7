"""Prepared images that are mixed with others before the encoder sees them, and who is mixed with whom."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tapetum.base import random
from tapetum.base.files import short_id
from tapetum.data.source import Source
from tapetum.encoders import Encoder
from tapetum.features import View
from tapetum.features.extract import seed as seed_of


def mixed(
    own: Source,
    other: Source,
    partner: Tensor,
    encoder: Encoder,
    facts: dict[str, Any],
    mix: Callable[[Tensor, Tensor], Tensor],
) -> View:
    """Each image of `own` [m] mixed with the image of `other` that `partner` [m] names.

    Args:
        partner: [m], the same for images of the same content.
        facts: what `mix` does; who is whose partner is added.
        mix: (x, partners), both [B, C, S, S] in [0, 1] -> the same.
    """
    keys, others = own.digests(), other.digests()
    used, at = partner.unique(return_inverse=True)
    pixels = torch.from_numpy(np.stack([encoder.prepare(other.read(row)) for row in used.tolist()]))
    place = {seed_of(key): i for key, i in zip(keys, at.tolist())}
    pairs = [f"{key.hex()} {others[p].hex()}" for key, p in zip(keys, partner.tolist())]

    def apply(x: Tensor, keys: Tensor) -> Tensor:
        chosen = pixels[[place[key] for key in keys.tolist()]].to(x.device)
        return mix(x.float() / 255, chosen.float() / 255).clamp(0, 1)

    return View(facts | {"pairs": short_id({"pairs": pairs})}, apply)


def of_another_class(y: Tensor, seed: int) -> Tensor:
    """For each label [m] a random row [m] with another one. All rows need a row that differs."""
    order = y.argsort(stable=True)
    _, group, count = y.unique(return_inverse=True, return_counts=True)
    first, size = (count.cumsum(0) - count)[group], count[group]
    u = random.uniform(seed, 0, torch.arange(len(y)), "another class").double()
    at = (u * (len(y) - size)).long()
    return order[torch.where(at >= first, at + size, at)]


def of_another_row(count: int, seed: int, among: int | None = None) -> Tensor:
    """For each of `count` rows a random other one [count], or a random one of `among` other rows."""
    u = random.uniform(seed, 0, torch.arange(count), "another row").double()
    if among is not None:
        return (u * among).long()
    at = (u * (count - 1)).long()
    return torch.where(at >= torch.arange(count), at + 1, at)


def first_of_twins(source: Source) -> Tensor:
    """For each image [m] the first of the same content, whose random numbers and partner it shares."""
    first: dict[bytes, int] = {}
    return torch.tensor([first.setdefault(key, row) for row, key in enumerate(source.digests())])
