"""Random numbers as a function of what they are for, not of what was drawn before.

Every number is a hash of (seed, epoch, image, repeat, name, slot), so it depends on no batch size, no number
of workers or processes, and no resume. The hash is SplitMix64's finaliser (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", 2014) on int64 tensors: the same bits on every device.
"""

import hashlib
import math

import numpy as np
import torch

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64: successive slots land far apart
_MIX1, _MIX2 = -4658895280553007687, -7723592293110705685  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _scramble(x: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser; on a CPU by numpy, which does little things in a fifth of torch's time."""
    if x.device.type != "cpu":
        return _scramble_anywhere(x)
    y = np.ascontiguousarray(x.numpy()).view(np.uint64)
    y = (y ^ (y >> np.uint64(30))) * np.uint64(_MIX1 % 2**64)
    y = (y ^ (y >> np.uint64(27))) * np.uint64(_MIX2 % 2**64)
    return torch.from_numpy((y ^ (y >> np.uint64(31))).view(np.int64))


def _scramble_anywhere(x: torch.Tensor) -> torch.Tensor:
    """The same by torch: int64 products wrap, and the masks make the shifts logical."""
    x = (x ^ ((x >> 30) & (2**34 - 1))) * _MIX1
    x = (x ^ ((x >> 27) & (2**37 - 1))) * _MIX2
    return x ^ ((x >> 31) & (2**33 - 1))


def _key(*parts: object) -> int:
    """A signed 64-bit key for seed, epoch and name."""
    return int.from_bytes(
        hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little", signed=True
    )


def uniform(
    seed: int,
    epoch: int,
    index: torch.Tensor,
    name: str,
    shape: tuple[int, ...] = (),
    repeat: torch.Tensor | int = 0,
) -> torch.Tensor:
    """Numbers in [0, 1) for the images `index` [B] int64, float32 [B, *shape], on `index`'s device.

    `repeat` [B] counts an image's earlier occurrences in the same epoch.
    """
    return more(_scramble(index.long() * _GOLDEN + _key(seed, epoch, name) + repeat), shape)


def key(u: torch.Tensor) -> torch.Tensor:
    """Two numbers in [0, 1) of each image [B, 2] -> a key [B] int64, from which `more` makes any number of
    others."""
    high, low = (u * 2**24).long().unbind(1)
    return _scramble(high * 2**24 + low)


def more(key: torch.Tensor, shape: tuple[int, ...] = ()) -> torch.Tensor:
    """Numbers in [0, 1) of keys [B] int64: float32 [B, *shape], where the keys lie."""
    return _fraction(_bits(key, shape) >> 40)


def normal(key: torch.Tensor, shape: tuple[int, ...] = ()) -> torch.Tensor:
    """Standard normal numbers of keys [B]: float32 [B, *shape] (Box and Muller)."""
    bits = _bits(key, shape)
    u, v = _fraction(bits >> 40), _fraction(bits >> 16)
    return (-2 * (1 - u).log()).sqrt() * (2 * math.pi * v).cos()


def _bits(key: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """64 random bits for each slot of each key: [B, *shape] int64."""
    slot = torch.arange(1, math.prod(shape) + 1, device=key.device) * _GOLDEN  # [S]
    return _scramble(key[:, None] + slot).view(len(key), *shape)


def _fraction(bits: torch.Tensor) -> torch.Tensor:
    """The lowest 24 bits as numbers in [0, 1)."""
    return (bits & (2**24 - 1)).float().mul(2.0**-24)


def order(seed: int, epoch: int, n: int) -> torch.Tensor:
    """A permutation of range(n) [n] int64, the same on every machine."""
    bits = _scramble(torch.arange(1, n + 1) * _GOLDEN + _key(seed, epoch, "order"))
    return bits.argsort(stable=True)
