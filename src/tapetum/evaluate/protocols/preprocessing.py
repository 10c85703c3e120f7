"""What resizing and normalisation alone do: kNN with each of them swapped (arXiv:2305.13456)."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Annotated, Any, Literal

import numpy as np
import torch

from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count
from tapetum.data.source import Source
from tapetum.encoders import Encoder
from tapetum.encoders.spec import MEAN, STD, Spec
from tapetum.evaluate.case import Case
from tapetum.evaluate.cheap import random_convolutions, statistics
from tapetum.evaluate.known import known
from tapetum.evaluate.protocols import knn
from tapetum.evaluate.result import Result
from tapetum.features import in_order

VERSION = 1
SPLITS = "once"
LOOK = 200  # images whose channels' means and standard deviations stand for all

Fit = Literal["crop", "pad", "squash"]
Norm = Literal["data", "half", "imagenet", "none"]


def protocol(
    case: Case,
    *,
    sizes: tuple[Annotated[float, 0.05, 8], ...] = (0.5,),
    fits: tuple[Fit, ...] = ("crop", "pad", "squash"),
    norms: tuple[Norm, ...] = ("data", "half", "imagenet", "none"),
    cross: bool = False,
    k: Count = 20,
    train_images: Count = 2000,
    images: Count = 500,
) -> list[Result]:
    """The same kNN on the same images, with what comes before the encoder as it is and swapped: one thing at
    a time, or all with all. Features of the image's statistics, and of convolutions with random patches of
    the training images, stand beside it.

    Args:
        sizes: of the images, as multiples of the encoder's own.
        fits: how an image becomes a square.
        norms: what is subtracted and divided by: the training images' statistics, one half, ImageNet's
            statistics, nothing.
        cross: all combinations, not one change at a time.
        k: neighbours that vote.
        train_images, images: at most so many of each part, drawn at random.
    """
    known(case, "preprocessing")  # one class an image
    given = case.extractor
    train, test, rows = _drawn(case, train_images, images)
    notes: list[str] = []
    variants = {"as it is": given}
    for words, spec in _swapped(given.encoder.spec, train, sizes, fits, norms, cross):
        try:
            variants[words] = given.of(Encoder(given.encoder.net, spec).eval())
        except TapetumError as error:
            notes.append(f"left out: {words}: {error}")
    spec = given.encoder.spec
    variants["image statistics"] = given.plain_of(statistics(spec))
    variants["random convolutions"] = given.plain_of(random_convolutions(spec, train, case.seed))
    training = given.encoder.training
    found = []
    for words, extractor in variants.items():
        part = Case(train, test, extractor, seed=case.seed)
        data = part.labelled
        scores = knn.learner(k)(data.x, data.y, data.queries, data.width, case.seed)
        result = case.result(
            "preprocessing", VERSION, "accuracy", scores.argmax(1)[None], data.truth, rows=rows,
            head={"k": k, "train images": len(train), "test images": len(test), "variant": words},
            label=f"knn accuracy, {words}", notes=[*data.notes, *notes],
            details={"preprocessing": extractor.encoder.spec.preprocessing()},
        )  # fmt: skip
        found.append(replace(result, subject=extractor.subject))
    given.encoder.train(training)
    return found


def _drawn(case: Case, train_images: int, images: int) -> tuple[Source, Source, np.ndarray]:
    """Some training and test images that can be read and have a label, and the latters' rows."""
    data = case.labelled
    parts = []
    for held, rows, most in ((case.train, data.seen, train_images), (case.test, data.rows, images)):
        chosen = np.sort(rows[random.order(case.seed, 0, len(rows)).numpy()[:most]])
        parts.append((held.source.take(chosen), chosen))
    (train, _), (test, rows) = parts
    return in_order(train), in_order(test), rows


def _swapped(
    spec: Spec,
    train: Source,
    sizes: tuple[float, ...],
    fits: tuple[Fit, ...],
    norms: tuple[Norm, ...],
    cross: bool,
) -> Iterator[tuple[str, Spec]]:
    """(words, spec) of each variant that differs from the encoder's own."""
    sides = [side for s in sizes if (side := round(s * spec.image_size))]
    options: list[list[tuple[str, dict[str, Any]]]] = [
        [(f"{side} pixels", {"image_size": side}) for side in sides],
        [(fit, {"fit": fit, "crop_pct": spec.crop_pct if fit == "crop" else 1.0}) for fit in fits],
        [(f"normalised by {norm}", _statistics(norm, spec, train)) for norm in norms],
    ]
    nothing: tuple[str, dict[str, Any]] = ("", {})
    choices: list[tuple] = [(option,) for each in options for option in each]
    if cross:
        choices = list(product(*([nothing, *each] for each in options)))
    seen = [spec.preprocessing()]
    for choice in choices:
        made = replace(spec, **{name: value for _, changes in choice for name, value in changes.items()})
        if (facts := made.preprocessing()) not in seen:
            seen.append(facts)
            yield ", ".join(words for words, changes in choice if words and _changes(spec, changes)), made


def _changes(spec: Spec, changes: dict[str, Any]) -> bool:
    return any(getattr(spec, name) != value for name, value in changes.items())


def _statistics(norm: Norm, spec: Spec, train: Source) -> dict[str, Any]:
    """mean and std of each channel, for pixels in [0, 1]."""
    count = len(spec.mean)
    if norm == "data":
        blank = Encoder(torch.nn.Flatten(), replace(spec, name="pixels", model="", args={}))
        rows = range(0, len(train), max(1, len(train) // LOOK))
        pixels = np.stack([blank.prepare(train.read(row)) for row in rows]) / 255
        middle, spread = pixels.mean((0, 2, 3)).round(4), pixels.std((0, 2, 3)).clip(1e-3).round(4)
        return {"mean": tuple(middle.tolist()), "std": tuple(spread.tolist())}
    if norm == "imagenet" and count == 3:
        return {"mean": MEAN, "std": STD}
    average = (float(np.mean(MEAN)), float(np.mean(STD)))  # for images of other channels
    mean, std = {"half": (0.5, 0.5), "imagenet": average, "none": (0.0, 1.0)}[norm]
    return {"mean": (mean,) * count, "std": (std,) * count}
