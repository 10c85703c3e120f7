"""What protocols share that fit a head on clean training images and judge it by changed test images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.encoders import Encoder
from tapetum.evaluate.baselines import random_weights
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import knn, logistic
from tapetum.evaluate.regression import regression
from tapetum.features import Extractor, View

Head = Literal["logistic", "knn"]
Reference = Literal["none", "pixels", "random weights"]


class Judge:
    """A head that learnt from a case's clean training images, and some of its test images.

    Args:
        head: weighted kNN, or logistic regression with a penalty chosen on training images.
        images: at most so many test images, drawn at random by the case's seed.

    Attributes:
        rows: [m], which test images these are, truth: [m] their classes, source: the images,
        classes: names, notes: what was left out.

    Raises TapetumError where labels are not one class an image.
    """

    def __init__(self, case: Case, head: Head, images: int):
        if case.kind != "class":
            raise TapetumError(
                f"{head} judges one class an image here, not labels of the kind {case.kind!r}."
            )
        data = case.labelled
        kept = random.order(case.seed, 0, len(data.rows))[:images].sort().values
        self.case, self.head, self.classes = case, head, data.classes
        self.rows, self.truth, self.clean = data.rows[kept.numpy()], data.truth[kept], data.queries[kept]
        self.source = case.test.source.take(self.rows)
        left = len(data.rows) - len(kept)
        self.notes = data.notes + (
            [f"{left:,} test images are left out: {images:,} were asked for"] if left else []
        )
        if head == "logistic":
            self._fitted = regression(data.x, data.y, data.width, case.seed)

    def scores(self, queries: Tensor) -> Tensor:
        """Features [m, D] -> scores [m, C]."""
        if self.head == "knn":
            data = self.case.labelled
            return knn.learner()(data.x, data.y, queries, data.width, self.case.seed)
        return self._fitted(queries).float()

    def features(self, view: View | None = None, extractor: Extractor | None = None) -> Tensor:
        """Features [m, D] of the test images through a view."""
        if view is None and extractor is None:
            return self.clean
        found = (extractor or self.case.extractor).features(self.source, view=view)
        return torch.from_numpy(np.array(found.x, dtype=np.float32))

    def predicted(self, view: View | None = None) -> Tensor:
        """The class [m] that each image gets through a view."""
        return self.scores(self.features(view)).argmax(1)

    def wrong(self, view: View | None = None) -> Tensor:
        """[m], 1 where the class is wrong."""
        return (self.predicted(view) != self.truth).double()

    def facts(self) -> dict[str, Any]:
        """How the head learnt and who judges it, for a protocol's id."""
        version = {"knn": knn.VERSION, "logistic": logistic.VERSION}[self.head]
        return {"head": self.head, "version": version, "test images": len(self.rows)}


def reference(judge: Judge, name: Reference) -> Judge | None:
    """The same head on a named reference's features of the same images; None for "none".

    Pixels are the encoder's own prepared images, shrunk to 32 x 32.
    """
    if name == "none":
        return None
    case, given = judge.case, judge.case.extractor
    other = _pixels(given.encoder) if name == "pixels" else random_weights(given.encoder, case.seed)
    if other is None and not any(True for _ in given.encoder.parameters()):
        other = given.encoder  # raw pixels have no weights, random or learnt
    if other is None:
        raise TapetumError(f"{given.encoder.name} cannot be built again with random weights; take pixels.")
    extractor = given.of(other) if name == "random weights" else given.plain_of(other)
    parts = (case.train.source, case.test.source)
    return Judge(Case(*parts, extractor, seed=case.seed), judge.head, len(judge.rows))


def _pixels(encoder: Encoder) -> Encoder:
    half = tuple(0.5 for _ in encoder.spec.mean)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(32), nn.Flatten())
    return Encoder(net, replace(encoder.spec, name="pixels", model="", args={}, mean=half, std=half)).eval()


def shares(
    values: Tensor, base: Tensor, names: Sequence[str], notes: list[str], what: str, reference: str
) -> np.ndarray | None:
    """What each image adds to the mean over names of values [names, m] over base [names]: [m].

    It is linear in the images, so that the mean over them is the number. Where the base is not above 0,
    nothing can be divided by it: that name is left out, and a note says so. None where no name is left.
    """
    kept = base > 0
    if not kept.all():
        lost = ", ".join(name for name, k in zip(names, kept) if not k)
        notes.append(f"left out of the {what}, since that of {reference} is not above 0: {lost}")
    return (values[kept] / base[kept, None]).mean(0).numpy() if kept.any() else None
