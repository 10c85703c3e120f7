"""What there is to learn and to be judged by: readable images with labels of one kind, in two parts."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tapetum.base.errors import TapetumError
from tapetum.features import Features

Kind = Literal["class", "classes", "number"]
WRONG = "count as wrong"  # what happens to test images of classes that training has not
SEPARATORS = (";", "|", ",")
WRONG = "count as wrong"


@dataclass(frozen=True)
class Labelled:
    """Args:
    kind: "class" (one class an image), "classes" (several) or "number".
    classes: names; [] of numbers.
    x, y: features [n, D] of training images and what is known of them: int64 [n] below len(classes), or
        float32 [n, C] of 0 and 1, or float32 [n].
    queries, truth: the same of test images [m, ...]; of one class numbers from len(classes) on are classes
        that training has not.
    seen, rows: which rows of the two parts these are.
    notes: what was left out.
    """

    kind: Kind
    classes: list[str]
    x: Tensor
    y: Tensor
    queries: Tensor
    truth: Tensor
    seen: np.ndarray
    rows: np.ndarray
    notes: list[str]

    @property
    def width(self) -> int:
        """How many scores an image gets: one for each class, or one number."""
        return max(1, len(self.classes))


def labelled(train: Features, test: Features, kind: Kind) -> Labelled:
    """Images without a label, or that cannot be read, are left out.

    Raises TapetumError where nothing is left, or labels are not of this kind.
    """
    known = [_known(part, name) for part, name in ((train, "training"), (test, "test"))]
    names = [_names(part, rows) for part, rows in zip((train, test), known)]
    notes = [
        f"{len(part.damaged):,} {name} images cannot be read and are left out"
        for part, name in ((train, "training"), (test, "test"))
        if part.damaged
    ]
    if kind == "number":
        classes: list[str] = []
        y, truth = (_numbers(part, rows) for part, rows in zip((train, test), known))
    elif kind == "classes":
        sets = [[_set(name) for name in part] for part in names]
        classes = sorted(set().union(*sets[0]))
        y, truth = (_many(part, classes) for part in sets)
        if new := sorted(set().union(*sets[1]) - set(classes)):
            notes.append(f"classes that no training image has are not asked for: {', '.join(new)}")
    else:
        there = {name: i for i, name in enumerate(train.classes or [])}
        classes = sorted(set(names[0]), key=there.__getitem__)
        number = {name: i for i, name in enumerate(classes)}
        if new := sorted(set(names[1]) - set(classes)):
            number |= {name: len(classes) + i for i, name in enumerate(new)}
            count = sum(name in new for name in names[1])
            notes.append(
                f"{count:,} test images of classes without training images {WRONG}: {', '.join(new)}"
            )
        y, truth = (torch.tensor([number[name] for name in part]) for part in names)
        if len(classes) < 2:
            raise TapetumError(
                f"training needs images of at least 2 classes; {train.source.name} has {classes}."
            )
    x, queries = (_rows(part, rows) for part, rows in zip((train, test), known))
    return Labelled(kind, classes, x, y, queries, truth, known[0], known[1], notes)


def _known(stored: Features, part: str) -> np.ndarray:
    """The rows that can be read and have a label."""
    if stored.labels is None or stored.classes is None:
        raise TapetumError(f"the {part} data {stored.source.name} have no labels; give them with --labels.")
    rows = np.flatnonzero((stored.labels >= 0) & stored.there)
    if not len(rows):
        raise TapetumError(
            f"the {part} data {stored.source.name} have no image with a label that can be read."
        )
    return rows


def _names(stored: Features, rows: np.ndarray) -> list[str]:
    names = stored.source.label_names()
    return [names[row] or "" for row in rows]


def _rows(stored: Features, rows: np.ndarray) -> Tensor:
    whole = len(rows) == len(stored)
    return torch.from_numpy(np.array(stored.x if whole else stored.x[rows], dtype=np.float32))


def _numbers(stored: Features, rows: np.ndarray) -> Tensor:
    names, found = stored.source.label_names(), []
    for row in rows:
        try:
            found.append(float(names[row] or ""))
        except ValueError:
            raise TapetumError(
                f"the label of {stored.paths[row]} in {stored.source.name} is {names[row]!r}, not a number."
            ) from None
    return torch.tensor(found)


def _set(name: str) -> set[str]:
    """The classes in a label such as "cat;dog"."""
    mark = next((mark for mark in SEPARATORS if mark in name), SEPARATORS[0])
    return {part.strip() for part in name.split(mark)} - {""}


def _many(sets: list[set[str]], classes: list[str]) -> Tensor:
    return torch.tensor([[float(name in one) for name in classes] for one in sets])
