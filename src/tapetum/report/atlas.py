"""A sample of images as an encoder sees them: a map in two dimensions, neighbours, and small pictures."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F

from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.data.canvas import cores
from tapetum.data.decode import Damaged
from tapetum.data.source import Source
from tapetum.evaluate.neighbours import nearest
from tapetum.evaluate.split import in_turn
from tapetum.features import Extractor, Features
from tapetum.report.page import data_uri
from tapetum.report.sheet import picture

Map = Literal["pca", "umap"]
NEAR = 6  # neighbours that are kept of each image
PER_SPRITE = 1024  # pictures in one sheet; phones decode no sheet of more than some million pixels
LARGE, SMALL, TINY = 64, 40, 24  # sides of pictures in pixels
MANY, CROWD = 4000, 10_000  # images beyond which they are small, and tiny
_ROWS = 2048  # whose neighbours are looked for at once


@dataclass
class Atlas:
    """Args:
    found: features [N, D] of the sample, all of which can be read.
    of: how many images it is a sample of.
    xy: [N, 2], each axis within [0, 1].
    how: what the map is, in words.
    near, likeness: [N, K] the nearest others, and their cosines.
    said: [N] number of the class that was answered, -1 where none was; None where nothing was asked.
    classes: names of those numbers and of the labels.
    """

    found: Features
    of: int
    xy: np.ndarray
    how: str
    near: np.ndarray
    likeness: np.ndarray
    said: np.ndarray | None = None
    classes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.found)

    @property
    def labels(self) -> np.ndarray:
        """int64 [N], -1 where unknown."""
        known = self.found.labels
        return np.full(len(self), -1) if known is None else known

    def class_of(self, row: int) -> str:
        label = int(self.labels[row])
        return self.classes[label] if 0 <= label < len(self.classes) else ""

    def data(self) -> dict[str, Any]:
        """What the page's script needs, as plain data."""
        side = LARGE if len(self) <= MANY else SMALL if len(self) <= CROWD else TINY
        return {
            "side": side,
            "columns": 32,
            "per": PER_SPRITE,
            "sprites": sprites(self.found.source, side),
            "x": np.rint(1000 * self.xy[:, 0]).astype(int).tolist(),
            "y": np.rint(1000 * self.xy[:, 1]).astype(int).tolist(),
            "label": self.labels.tolist(),
            "said": None if self.said is None else self.said.tolist(),
            "classes": [name.encode(errors="replace").decode() for name in self.classes],
            "name": [path.encode(errors="replace").decode() for path in self.found.paths],
            "near": self.near.tolist(),
            "likeness": np.round(self.likeness, 3).tolist(),
        }


def chosen(source: Source, most: int, seed: int, first: np.ndarray | None = None) -> np.ndarray:
    """Rows of up to `most` images, sorted: those of `first` and others drawn by seed."""
    drawn = random.order(seed, -3, len(source)).numpy()
    if first is not None and len(first):
        drawn = np.concatenate([first, drawn[~np.isin(drawn, first)]])
    return np.sort(drawn[:most])


def atlas(extractor: Extractor, source: Source, of: int, seed: int, how: Map = "pca") -> Atlas:
    """The map of these images; those that cannot be read are left out.

    Raises TapetumError with fewer than three images, or for `umap` where it is not installed.
    """
    found = extractor.features(source)
    found = found.take(np.flatnonzero(found.there))
    if len(found) < 3:
        raise TapetumError(f"{source.name} has {len(found)} readable images; a map needs at least 3.")
    xy, words = flat(np.asarray(found.x, dtype=np.float32), seed, how)
    k = min(NEAR, len(found) - 1)
    parts = [
        nearest(found.x, rows, k) for rows in np.split(np.arange(len(found)), range(_ROWS, len(found), _ROWS))
    ]
    near, likeness = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return Atlas(found, of, xy, words, near, likeness, classes=found.classes or [])


def flat(x: np.ndarray, seed: int, how: Map = "pca") -> tuple[np.ndarray, str]:
    """Features [N, D] -> places [N, 2], each axis within [0, 1], and how they came about.

    PCA is of features of length one, as neighbours are found by their cosine; the sign of each axis is such
    that the largest deviation is positive.
    """
    unit = F.normalize(torch.from_numpy(x), dim=1)
    if how == "umap":
        if importlib.util.find_spec("umap") is None:
            raise TapetumError("the map umap needs its package: pip install umap-learn; or use --map pca.")
        from umap import UMAP  # type: ignore[import-not-found]

        near = min(15, len(x) - 1)
        places = UMAP(n_neighbors=near, metric="cosine", random_state=seed).fit_transform(unit.numpy())
        words = "UMAP: what the network takes for similar stands together; distances of groups say little."
        return _within(np.asarray(places, dtype=np.float64)), words
    y = (unit - unit.mean(0)).double()
    with torch.random.fork_rng(devices=[]):  # subspace iteration begins at random
        torch.manual_seed(seed)
        _, values, axes = torch.svd_lowrank(y, q=min(16, *y.shape), niter=12)
    places = (y @ axes[:, :2]).numpy()
    if places.shape[1] == 1:
        places = np.concatenate([places, np.zeros_like(places)], 1)
    largest = places[np.abs(places).argmax(0), np.arange(2)]
    share = float(values[:2].square().sum() / y.square().sum().clamp(min=1e-30))
    words = (
        f"PCA: the two directions in which the features differ most; they hold {share:.0%} of all their "
        "variance, so that images that lie together here may still differ in other directions."
    )
    return _within(places * np.where(largest < 0, -1, 1)), words


def _within(places: np.ndarray) -> np.ndarray:
    """Both axes to [0, 1], at one scale."""
    low, high = places.min(0), places.max(0)
    scale = max(float((high - low).max()), 1e-12)
    return (places - (low + high) / 2) / scale + 0.5


def sprites(source: Source, side: int) -> list[str]:
    """All pictures in sheets of 32 columns, as JPEG within the page."""
    columns, found = 32, []
    with ThreadPoolExecutor(min(8, cores())) as pool:
        for start in range(0, len(source), PER_SPRITE):
            rows = range(start, min(start + PER_SPRITE, len(source)))
            sheet = Image.new("RGB", (columns * side, -(-len(rows) // columns) * side), "#808080")
            for at, tile in enumerate(pool.map(lambda row: small(source, row, side), rows)):
                sheet.paste(tile, (at % columns * side, at // columns * side))
            found.append(data_uri(sheet, 78))
    return found


def small(source: Source, row: int, side: int) -> Image.Image:
    """The middle square of an image; grey where it can no longer be read."""
    try:
        pixels, _ = source.read_sized(row, side)
    except Damaged:
        return Image.new("RGB", (side, side), "#808080")
    image = picture(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1))
    way = Image.Resampling.NEAREST if max(image.size) * 2 <= side else Image.Resampling.BICUBIC
    return ImageOps.fit(image, (side, side), way)


def queries(atlas: Atlas, count: int, seed: int) -> np.ndarray:
    """Rows of images to show neighbours of: of all classes in turn, drawn by seed."""
    labels = atlas.labels
    rows = np.flatnonzero(labels >= 0)
    if len(rows):
        return rows[in_turn(labels[rows], seed)][:count]
    return random.order(seed, 0, len(atlas)).numpy()[:count]
