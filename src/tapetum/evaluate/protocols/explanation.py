"""Whether what explains a classifier's answers is true: parts are taken away in the order of relevance."""

from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from tapetum.base import random
from tapetum.base.settings import Count
from tapetum.evaluate.altered import unit
from tapetum.evaluate.case import Case
from tapetum.evaluate.result import Result
from tapetum.evaluate.robust import Judge
from tapetum.features import View
from tapetum.measure import attribution

VERSION = 1
SPLITS = "once"

By = Literal["gradients", "integrated", "occlusion", "random"]


def protocol(
    case: Case,
    *,
    by: tuple[By, ...] = ("gradients", "integrated", "occlusion", "random"),
    cells: Annotated[int, 2, 32] = 7,
    steps: Annotated[int, 2, 100] = 5,
    images: Count = 200,
) -> list[Result]:
    """A logistic regression learns from the features; of each test image, the cells are named that its answer
    hangs on. The number is how much of the answer's probability is there, on average, while the image is
    built up from the cells named first, less what is left while these are taken away first (insertion and
    deletion, RISE, arXiv:1806.07421): about 0 for cells named at random, and the higher the truer.

    Args:
        by: what names the cells: gradients (their size), integrated (gradients), occlusion (what the answer
            loses without a cell), random.
        cells: an image has so many by so many.
        steps: parts, of equal size, in which an image is built up and taken away.
        images: at most so many test images.
    """
    judge = Judge(case, "logistic", images)
    clean = judge.scores(judge.clean)
    answer = clean.argmax(1, keepdim=True)  # [m, 1]
    right = float((answer[:, 0] == judge.truth).double().mean())
    counts = [round(cells**2 * step / steps) for step in range(steps + 1)]
    found = []
    for name in dict.fromkeys(by):
        named = _Named(judge, name, cells)
        areas = {}
        for way in ("deletion", "insertion"):
            hidden = [(0, n) if way == "deletion" else (n, cells**2) for n in counts]
            left = [judge.scores(judge.features(named.without(*part))) for part in hidden]
            curve = torch.stack([scores.softmax(1).gather(1, answer)[:, 0] for scores in left], 1)
            areas[way] = attribution.area(curve.double())  # [m]
        truer = areas["insertion"] - areas["deletion"]
        details = {way: float(each.mean()) for way, each in areas.items()} | {"clean accuracy": right}
        result = case.result(
            "explanation", VERSION, "mean", truer.numpy()[None], np.zeros(len(truer)), rows=judge.rows,
            head=judge.facts() | {"by": name, "cells": cells, "steps": steps},
            label=f"explained by {name}", notes=judge.notes, details=details,
        )  # fmt: skip
        found.append(result)
    return found


class _Named:
    """The cells of each test image in the order of their relevance for the class that it is taken for."""

    def __init__(self, judge: Judge, by: By, cells: int):
        self.judge, self.by, self.cells = judge, by, cells
        self.blank = judge.case.extractor.encoder.mean
        self.ranks: dict[int, Tensor] = {}  # by an image's key; relevance is found once for all views
        self.seed = judge.case.seed
        self.facts = {"by": by, "cells": cells, "train": judge.case.train.data, "seed": self.seed}

    def without(self, first: int, last: int) -> View | None:
        """Images without the cells of these ranks, the `last` excluded; None for whole images."""
        if first == last:
            return None

        def apply(pixels: Tensor, keys: Tensor) -> Tensor:
            with torch.inference_mode(False):  # which is on around it, and would keep gradients away
                images = unit(pixels.clone())
                ranks = torch.stack([self._ranked(x, k) for x, k in zip(images, keys.tolist())])
                hidden = (first <= ranks) & (ranks < last)
                return attribution.without(images, hidden, self.blank.to(images.device))

        everything = last - first == self.cells**2
        return View({"hidden": "all"} if everything else self.facts | {"hidden": [first, last]}, apply)

    def _ranked(self, image: Tensor, key: int) -> Tensor:
        """An image [C, S, S] -> the ranks of its cells [G, G]."""
        if key not in self.ranks:
            self.ranks[key] = attribution.ranks(self._relevance(image, key))
        return self.ranks[key]

    def _relevance(self, image: Tensor, key: int) -> Tensor:
        if self.by == "random":
            return random.uniform(self.seed, 0, torch.tensor([key]), "cells", (self.cells,) * 2)[0]
        extractor, blank = self.judge.case.extractor, self.blank.to(image.device)

        def scores(images: Tensor) -> Tensor:
            return self.judge.scores(extractor.given(images).cpu())

        with torch.no_grad():
            answer = scores(image[None]).argmax()
        explain = getattr(attribution, self.by)
        return explain(lambda images: scores(images)[:, answer], image, blank, self.cells)
