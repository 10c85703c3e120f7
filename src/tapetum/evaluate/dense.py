"""What dense protocols share: feature maps with the class of every pixel, and how answers are judged."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base.console import Progress
from tapetum.base.errors import TapetumError
from tapetum.base.threads import read_ahead
from tapetum.data.canvas import cores
from tapetum.data.masks import IGNORED, Masks
from tapetum.encoders.prepare import prepare_mask
from tapetum.evaluate.case import Case
from tapetum.evaluate.result import Result
from tapetum.evaluate.split import held_out
from tapetum.features import Features
from tapetum.measure.segmentation import class_iou, counts

HELD_OUT = 0.2  # of the images, where there are no test images
CELLS = 2**25  # numbers that are held at once: 128 MB


@dataclass(frozen=True)
class Annotated:
    """Images with feature maps and classes.

    x: [N, D, h, w] float16, as they are stored; rows [n]: those of them that are meant.
    classes: uint8 [n, S, S], of each pixel of the image as the encoder gets it; 255 counts nowhere.
    """

    x: np.ndarray
    rows: np.ndarray
    classes: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def maps(self, at: np.ndarray) -> Tensor:
        """The feature maps of some of them as float32 [b, D, h, w]."""
        return torch.from_numpy(np.asarray(self.x[self.rows[at]], dtype=np.float32))

    def take(self, at: np.ndarray) -> "Annotated":
        """Some of them."""
        return Annotated(self.x, self.rows[at], self.classes[torch.from_numpy(at)])

    def portions(self, each: int) -> list[np.ndarray]:
        """Which images are worked on at once where one takes `each` numbers."""
        size = max(1, CELLS // max(1, each))
        return np.split(np.arange(len(self)), range(size, len(self), size))


@dataclass(frozen=True)
class Dense:
    """train, test: the images; names: the classes' numbers in the masks, those first that training has;
    known: how many these are; facts: what the protocol's id must name; notes: what was left out."""

    train: Annotated
    test: Annotated
    names: list[int]
    known: int
    facts: dict[str, Any]
    notes: list[str]


def dense(case: Case, path: str, ignored: int) -> Dense:
    """The case's images with their annotation; without test images a fifth is held out.

    Args:
        path: where the annotation is, see data.masks.Masks.
        ignored: a class that counts nowhere, beside 255.

    Raises TapetumError where there is none, or of one class alone.
    """
    if not path:
        raise TapetumError("segmentation needs the classes of pixels: give --segment.masks PATH.")
    masks = Masks(path)
    notes: list[str] = []
    train = _annotated(case.of("train", "maps"), masks, case, "training", notes)
    facts: dict[str, Any] = {"ignored": ignored}
    if case.alone:
        out = held_out(np.zeros(len(train), dtype=np.int64), HELD_OUT, case.seed)
        facts |= {"held_out": HELD_OUT, "masks": masks.digest(_paths(case.train, train))}
        train, test = train.take(np.flatnonzero(~out)), train.take(np.flatnonzero(out))
        notes.append(f"{len(test):,} of the images are held out and judge, seed {case.seed}")
    else:
        test = _annotated(case.of("test", "maps"), masks, case, "test", notes)
        facts["masks"] = masks.digest(_paths(case.train, train) + _paths(case.test, test))
    there = [set(part.classes.unique().tolist()) - {IGNORED, ignored} for part in (train, test)]
    names = [*sorted(there[0]), *(new := sorted(there[1] - there[0]))]
    if len(there[0]) < 2:
        raise TapetumError(f"training needs pixels of at least 2 classes; {path} has {names} there.")
    if new:
        notes.append(f"classes without training pixels are told wrongly: {', '.join(map(str, new))}")
    number = np.full(256, IGNORED, dtype=np.uint8)
    number[names] = np.arange(len(names))
    for part in (train, test):
        np.take(number, part.classes.numpy(), out=part.classes.numpy())
    return Dense(train, test, names, len(there[0]), facts, notes)


def _annotated(stored: Features, masks: Masks, case: Case, part: str, notes: list[str]) -> Annotated:
    """Those images of a part that have annotation and can be read."""
    source, spec = stored.source, case.extractor.encoder.spec
    rows = [row for row in np.flatnonzero(stored.there).tolist() if masks.has(source.paths[row])]
    if not rows:
        raise TapetumError(
            f"{masks.name} has no annotation for any of the {part} images, such as {source.paths[0]}."
        )
    if left := len(stored) - len(rows):
        notes.append(f"{left:,} {part} images without annotation, or that cannot be read, are left out")

    def read(row: int) -> np.ndarray:
        return prepare_mask(masks.read(source.paths[row], source.size(row)), spec, IGNORED)

    found = np.empty((len(rows), spec.image_size, spec.image_size), dtype=np.uint8)
    with ThreadPoolExecutor(cores()) as pool, Progress(len(rows), "reading masks") as bar:
        for at, classes in enumerate(read_ahead(pool, read, rows, 4 * cores())):
            found[at] = classes
            bar.advance()
    return Annotated(stored.x, np.array(rows), torch.from_numpy(found))


def _paths(stored: Features, part: Annotated) -> list[str]:
    return [stored.paths[row] for row in part.rows]


def judge(found: Dense, answer: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Counts [n, C, 2] and [n, C] of the test images, see measure.segmentation.counts.

    `answer` gives scores [b, C, h, w] for maps [b, D, h, w]; they are enlarged bilinearly to the size of the
    images, and the largest tells a pixel's class.
    """
    test, size = found.test, found.test.classes.shape[1:]
    parts = []
    with torch.no_grad(), Progress(len(test), "segmenting") as bar:
        for at in test.portions(int(np.prod(test.x.shape[1:]))):
            truth = test.classes[torch.from_numpy(at)]
            few = max(1, CELLS // (found.known * size.numel()))
            for scores, true in zip(answer(test.maps(at)).split(few), truth.split(few)):
                scores = F.interpolate(scores, size, mode="bilinear", align_corners=False)
                parts.append(counts(scores.argmax(1), true, len(found.names), IGNORED))
                bar.advance(len(true))
    told, true = zip(*parts)
    return torch.cat(told), torch.cat(true)


def results(
    case: Case, name: str, version: int, found: Dense, answer: Callable[[Tensor], Tensor], **facts: Any
) -> list[Result]:
    """mIoU and pixel accuracy; the error bar is a bootstrap over images of their counts."""
    told, true = judge(found, answer)
    head = facts.pop("head") | found.facts
    each = dict(zip(map(str, found.names), class_iou(told, true).tolist()))
    details = facts.pop("details", {}) | {"iou of classes": each}
    return [
        case.result(
            name, version, metric, told[None], true, rows=found.test.rows, head=head, notes=found.notes,
            details=details, **facts,
        )
        for metric in ("mean_iou", "pixel_accuracy")
    ]  # fmt: skip
