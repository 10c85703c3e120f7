"""A `Source`: images in a fixed order, wherever they lie, with what is known about them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tapetum.base.errors import TapetumError, unknown
from tapetum.data.decode import MAX_PIXELS, Damaged
from tapetum.data.fingerprint import digests, fingerprint
from tapetum.data.form import RGB, Form
from tapetum.data.stores import Store
from tapetum.data.structure import natural, split_folder, split_name

_SAMPLE = 256  # images whose size `summary` looks at


class Source:
    """Images and what is known about them; `open_data` makes one of anything.

    paths        relative, with '/' ('000012' where images have no names)
    labels       int64 [N], -1 = unknown; None where there are none at all
    classes      the names of the classes, labels point into it; None without labels
    label_origin where the labels came from, for people ("folders", "column 'breed' of dogs.csv", "none")
    split_of     the split of every image, or None
    texts        a text for every image, or None
    columns      further columns of a list or of a file of labels, a text for every image ("" = none)
    form         the channels and levels in which images are given
    skipped      what was left out while listing: {"path", "reason"}
    notes        sentences that belong into the summary
    Reading is safe in threads and after a fork, and a source pickles; open files are not taken along.
    """

    def __init__(self, name: str, store: Store, keys: Sequence[Any], paths: list[str]):
        self.name, self.store, self.keys, self.paths = name, store, keys, paths
        self.labels: np.ndarray | None = None
        self.classes: list[str] | None = None
        self.label_origin = "none"
        self.split_of: list[str] | None = None
        self.texts: list[str] | None = None
        self.columns: dict[str, list[str]] = {}
        self.skipped: list[dict[str, str]] = []
        self.notes: list[str] = []
        self.max_pixels = MAX_PIXELS
        self.form = RGB

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"Source({self.name!r}, {len(self):,} images)"

    @property
    def splits(self) -> list[str]:
        """The names of the splits there are, in the order train, validation, test, others."""
        order = ["train", "validation", "test"]
        found = set(self.split_of or ()) - {""}
        return [name for name in order if name in found] + natural(found - set(order))

    def read(self, i: int) -> np.ndarray:
        """Image i as uint8 [H, W, C]; raises Damaged with the reason."""
        return self.read_sized(i)[0]

    def read_sized(self, i: int, at_least: int = 0) -> tuple[np.ndarray, tuple[int, int]]:
        """Image i and its true (height, width); `at_least` > 0 allows fewer pixels, see `decode`."""
        return self.store.read(self.keys[i], self.max_pixels, at_least, self.form)

    def size(self, i: int) -> tuple[int, int]:
        """The (height, width) of image i, from its header where it has one; raises Damaged."""
        return self.store.size(self.keys[i])

    def formed(self, form: Form) -> Source:
        """The same images, given in another form."""
        out = copy.copy(self)
        out.form = form
        return out

    def take(self, indices: Iterable[int] | np.ndarray) -> Source:
        """The images of these indices, in this order, as a source of their own with the same classes."""
        index = np.asarray(indices if hasattr(indices, "__array__") else list(indices))
        chosen = np.arange(len(self))[index if index.size else index.astype(int)].tolist()
        out = copy.copy(self)
        out.keys = [self.keys[i] for i in chosen]
        out.paths = [self.paths[i] for i in chosen]
        out.labels = None if self.labels is None else self.labels[chosen]
        out.split_of = None if self.split_of is None else [self.split_of[i] for i in chosen]
        out.texts = None if self.texts is None else [self.texts[i] for i in chosen]
        out.columns = {name: [cells[i] for i in chosen] for name, cells in self.columns.items()}
        return out

    def part(self, split: str) -> Source:
        """One split, with paths from its folder where it has one ('valid' and 'val' mean 'validation').

        Raises TapetumError where there is no such split.
        """
        name = split if split in self.splits else split_name(split) or split
        if name not in self.splits:
            if not self.splits:
                raise TapetumError(f"{self.name} has no splits, so there is no split {split!r} to take.")
            raise unknown(f"split of {self.name}", split, self.splits)
        assert self.split_of is not None
        out = self.take([i for i, s in enumerate(self.split_of) if s == name])
        if start := split_folder(out.paths, name):
            out.paths = [path.removeprefix(start) for path in out.paths]
            within = (row for row in self.skipped if row["path"].startswith(start))
            out.skipped = [row | {"path": row["path"].removeprefix(start)} for row in within]
        return out

    def with_labels(
        self, names: Sequence[str | None], origin: str, classes: Sequence[str] | None = None
    ) -> Source:
        """The same images with these class names (None or '' = unknown).

        `classes` fixes the order of the classes; names outside it become unknown.
        """
        out = copy.copy(self)
        out.classes = list(classes) if classes is not None else natural({name for name in names if name})
        number = {name: i for i, name in enumerate(out.classes)}
        out.labels = np.array([number.get(name or "", -1) for name in names], dtype=np.int64)
        out.label_origin = origin
        return out

    def without_labels(self, reason: str = "") -> Source:
        """The same images without labels; `reason` is shown in the summary."""
        out = copy.copy(self)
        out.labels, out.classes = None, None
        out.label_origin = f"none: {reason}" if reason else "none"
        return out

    def with_classes(self, classes: Sequence[str]) -> Source:
        """The same images with labels pointing into `classes` (another source's), matched by name."""
        return self.with_labels(self.label_names(), self.label_origin, classes)

    def label_names(self) -> list[str | None]:
        """The class name of every image, None where unknown."""
        if self.labels is None or self.classes is None:
            return [None] * len(self)
        return [self.classes[label] if label >= 0 else None for label in self.labels.tolist()]

    def column(self, name: str) -> list[str]:
        """A column of the list or of the file of labels, a text for every image. Raises TapetumError."""
        if name not in self.columns:
            raise unknown(f"column of {self.name}", name, self.columns)
        return self.columns[name]

    def fingerprint(self) -> str:
        """32 hex digits that name the contents: every path, every image's bytes, every class name.

        The same on every machine and wherever the data lies; digests are cached by length and time of change.
        """
        return fingerprint(self.digests(), self.paths, self.label_names())

    def digests(self) -> list[bytes]:
        """16 bytes that name each image's content; none (b"") of what cannot be read."""
        return digests(self.store, self.keys)

    def summary(self) -> str:
        """One line for people: images, sizes, classes and their origin, splits, and what was left out."""
        line = f"{len(self):,} image{'s' * (len(self) != 1)}{self._sizes()}"
        if self.labels is None or self.classes is None:
            reason = self.label_origin.partition(": ")[2]
            line += ", no labels" + f" ({reason})" * bool(reason)
        else:
            line += f", {len(self.classes):,} classes from {self.label_origin}"
            if (known := int((self.labels >= 0).sum())) < len(self):
                line += f" ({known:,} images labelled)"
        if self.splits:
            line += f", splits {'/'.join(self.splits)}"
        if self.skipped:
            reasons = Counter(row["reason"] for row in self.skipped).most_common()
            listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons)
            line += f"; {len(self.skipped):,} file{'s' * (len(self.skipped) != 1)} left out ({listed})"
        return "; ".join([line, *self.notes])

    def _sizes(self) -> str:
        def size(i: int) -> tuple[int, int] | None:
            try:
                return self.size(i)
            except Damaged:
                return None

        step = max(1, -(-len(self) // _SAMPLE))
        with ThreadPoolExecutor(16) as pool:
            sizes = [found for found in pool.map(size, range(0, len(self), step)) if found]
        if not sizes:
            return ""
        small, large = (f"{w}x{h}" for h, w in (f(sizes, key=lambda s: s[0] * s[1]) for f in (min, max)))
        sampled = ", sampled" if step > 1 else ""
        return f" ({small}{sampled})" if small == large else f" ({small} to {large}{sampled})"
