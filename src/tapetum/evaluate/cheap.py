"""Cheap features that an encoder should beat: an image's statistics, convolutions with random patches."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tapetum.base import random
from tapetum.data.source import Source
from tapetum.encoders import Encoder
from tapetum.encoders.spec import Spec

PATCHES, SIDE, FROM = 256, 5, 64  # how many filters of which side, from as many images
AT_ONCE = 8  # images whose maps are held at once


class Statistics(nn.Module):
    """Mean, standard deviation, least and most of each channel: [B, 4 C]."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        return torch.cat([flat.mean(2), flat.std(2, correction=0), flat.amin(2), flat.amax(2)], 1)


class RandomConvolutions(nn.Module):
    """How much, on average, an image is like each filter, and like its negative: [B, 2 K].

    Rolf et al. 2021 ("A generalizable and accessible approach to machine learning with global satellite
    imagery"): filters [K, C, P, P] are whitened patches of the training images.
    """

    def __init__(self, filters: Tensor):
        super().__init__()
        self.register_buffer("filters", filters)

    def forward(self, x: Tensor) -> Tensor:
        step = max(1, x.shape[-1] // 64)  # of large images not every place
        return torch.cat([self._few(part, step) for part in x.split(AT_ONCE)])

    def _few(self, x: Tensor, step: int) -> Tensor:
        found = F.conv2d(x, self.filters, stride=step)  # type: ignore[arg-type]
        return torch.cat([F.relu(found - 1).mean((2, 3)), F.relu(-found - 1).mean((2, 3))], 1)


def statistics(spec: Spec) -> Encoder:
    """Statistics of images prepared as this spec says."""
    return Encoder(Statistics(), _plain(spec, "image statistics")).eval()


def random_convolutions(spec: Spec, train: Source, seed: int) -> Encoder:
    """Filters from readable training images prepared as this spec says; side 5, or the image's if smaller."""
    rows = random.order(seed, 0, len(train))[:FROM].tolist()
    plain = _plain(spec, "random convolutions")
    blank = Encoder(nn.Flatten(), plain)
    pixels = np.stack([blank.prepare(train.read(row)) for row in rows])
    filters = patches(torch.from_numpy(pixels).float() / 255, min(SIDE, spec.image_size), seed)
    return Encoder(RandomConvolutions(filters), plain).eval()


def patches(x: Tensor, side: int, seed: int, count: int = PATCHES) -> Tensor:
    """Random patches [count, C, side, side] of images x [B, C, S, S], centred and whitened, of the length of
    a side (Coates and Ng 2012)."""
    u = random.uniform(seed, 0, torch.arange(count), "patches", (3,))
    image = (u[:, 0] * len(x)).long()
    top, left = (u[:, 1:] * (x.shape[-1] - side + 1)).long().unbind(1)
    found = [x[i, :, t : t + side, a : a + side] for i, t, a in zip(image, top.tolist(), left.tolist())]
    flat = torch.stack(found).flatten(1).double()
    flat = flat - flat.mean(1, keepdim=True)
    flat = flat / (flat.var(1, keepdim=True) + 10 / 255**2).sqrt()
    power, axes = torch.linalg.eigh(flat.T @ flat / count)
    flat = flat @ axes @ torch.diag((power.clamp(min=0) + 0.1).rsqrt()) @ axes.T
    return F.normalize(flat, dim=1).float().view(count, x.shape[1], side, side) * side


def _plain(spec: Spec, name: str) -> Spec:
    zero, one = (tuple(v for _ in spec.mean) for v in (0.0, 1.0))
    return Spec(
        name, "", image_size=spec.image_size, mean=zero, std=one, fit=spec.fit, crop_pct=spec.crop_pct,
        interpolation=spec.interpolation, levels=spec.levels,
    )  # fmt: skip
