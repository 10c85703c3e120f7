"""Random numbers of one image's corruption: what numpy's generators say, as a function of a key."""

from typing import Protocol

import numpy as np
import torch

from tapetum.base import random


class Numbers(Protocol):
    """What a corruption asks for: a part of `numpy.random.Generator`, which will do as well."""

    def random(self, size): ...
    def uniform(self, low, high, size=None): ...
    def normal(self, loc=0.0, scale=1.0, size=None): ...
    def poisson(self, lam): ...
    def integers(self, low, high, size=None): ...


class Draws:
    """Numbers hashed from an int64 key, the same whenever they are asked for in the same order; one key has
    many streams that know nothing of each other."""

    def __init__(self, key: int, stream: int = 0):
        self.stream = stream
        self.image = torch.tensor([key], dtype=torch.int64)
        self.calls = 0

    def _next(self) -> torch.Tensor:
        """A key [1] for the next call."""
        self.calls += 1
        return random.key(random.uniform(self.stream, self.calls, self.image, "corruption", (2,)))

    def random(self, size=None):
        """Evenly in [0, 1)."""
        return _shaped(random.more(self._next(), _shape(size)), size)

    def uniform(self, low, high, size=None):
        """Evenly in [low, high)."""
        return low + (high - low) * self.random(size)

    def normal(self, loc=0.0, scale=1.0, size=None):
        """Normal numbers of this mean and standard deviation."""
        return loc + scale * _shaped(random.normal(self._next(), _shape(size)), size)

    def integers(self, low, high, size=None):
        """Whole numbers from `low` to `high` - 1."""
        return np.int64(np.floor(self.uniform(low, high, size)))

    def poisson(self, lam):
        """Counts of these means, by inverting their distribution function; few different means are quick."""
        means, which = np.unique(np.asarray(lam, np.float64), return_inverse=True)
        most = int(means[-1] + 12 * means[-1] ** 0.5 + 24)
        count = np.arange(most)
        log_factorial = np.cumsum(np.log(np.maximum(count, 1)))
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(count > 0, count * np.log(means[:, None]), 0)
        below = np.exp(logs - means[:, None] - log_factorial).cumsum(1).clip(max=1)  # [U, most]
        below[:, -1] = 1
        which = which.reshape(-1)
        ladder = (below + np.arange(len(means))[:, None]).ravel()  # rising over all means
        found = np.searchsorted(ladder, self.random(which.size) + which, side="right") - which * most
        return found.clip(0, most - 1).reshape(np.shape(lam))


def _shape(size) -> tuple[int, ...]:
    return () if size is None else (size,) if isinstance(size, int) else tuple(size)


def _shaped(x: torch.Tensor, size):
    """[1, ...] -> a number, or float64 of this size."""
    return float(x[0]) if size is None else x[0].numpy().astype(np.float64)
