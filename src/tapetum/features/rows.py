"""Features and the images that they belong to, row by row."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tapetum.data.fingerprint import fingerprint, name_bytes
from tapetum.data.source import Source


@dataclass(frozen=True)
class Features:
    """Stored features and the images that they belong to, in the order of the paths.

    x: [N, D] float32 (tokens [N, P, D] and maps [N, D, H, W] float16), mapped from the disk where it lies
        there in one piece; rows of images that cannot be read are not-a-number.
    source: the images, row by row.
    subject: what computed them.
    damaged: {row: reason}.
    keys: 16 bytes for each image that name its content.
    """

    x: np.ndarray
    source: Source
    subject: dict[str, Any]
    damaged: dict[int, str]
    keys: list[bytes] = field(repr=False)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labels(self) -> np.ndarray | None:
        """int64 [N], -1 = unknown; None without labels."""
        return self.source.labels

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes; None without labels."""
        return self.source.classes

    @property
    def paths(self) -> list[str]:
        """Relative path of every row."""
        return self.source.paths

    @cached_property
    def data(self) -> str:
        """The fingerprint of images and labels."""
        return fingerprint(self.keys, self.paths, self.source.label_names())

    @cached_property
    def there(self) -> np.ndarray:
        """bool [N]: which images could be read."""
        there = np.ones(len(self), dtype=bool)
        there[list(self.damaged)] = False
        return there

    def take(self, rows: np.ndarray) -> "Features":
        """These rows [n] alone."""
        chosen = rows.tolist()
        damaged = {at: self.damaged[row] for at, row in enumerate(chosen) if row in self.damaged}
        keys = [self.keys[row] for row in chosen]
        return Features(self.x[rows], self.source.take(rows), self.subject, damaged, keys)


def in_order(source: Source) -> Source:
    """The same images sorted by path, as the fingerprint sorts them: one content, one order of rows."""
    names = list(map(name_bytes, source.paths))
    order = sorted(range(len(names)), key=names.__getitem__)
    return source if order == list(range(len(order))) else source.take(order)
