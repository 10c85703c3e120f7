"""Robustness to style: accuracy on images with other images' colours, and with other amounts of stain."""

from typing import Annotated, Literal

import numpy as np
from torch import Tensor

from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count
from tapetum.data.open import open_data
from tapetum.data.source import Source
from tapetum.evaluate.case import Case
from tapetum.evaluate.mixed import first_of_twins, mixed, of_another_row
from tapetum.evaluate.result import Result
from tapetum.evaluate.robust import Head, Judge
from tapetum.features import View, in_order
from tapetum.views.stains import recoloured, stained

VERSION = 1
SPLITS = "once"


def protocol(
    case: Case,
    *,
    styles: tuple[Literal["colours", "stains"], ...] = ("colours", "stains"),
    data: str | None = None,
    stain: Annotated[float, 0, 1] = 0.2,
    head: Head = "logistic",
    images: Count = 500,
) -> list[Result]:
    """A head learns from clean training images; each test image then gets the colour statistics of another
    image, or other amounts of the stains of histology.

    Args:
        styles: colours (means and spreads of another image, Reinhard et al. 2001), stains (haematoxylin,
            eosin and DAB, Tellez et al. 2018).
        data: images whose colours are taken, of another laboratory or camera; by default other test images.
        stain: each stain is multiplied by up to 1 +- this, and changed by up to +- this.
        head: what learns, logistic or knn.
        images: at most so many test images.
    """
    if case.extractor.encoder.spec.form.channels != 3:
        raise TapetumError("style changes the colours of images of 3 channels; these have others.")
    judge = Judge(case, head, images)
    kinds = {"colours": lambda: _colours(judge, data), "stains": lambda: _stains(stain, case.seed)}
    clean = judge.predicted()
    found = []
    for name in dict.fromkeys(styles):
        view = kinds[name]()
        predicted = judge.predicted(view)
        details = {
            "clean accuracy": float((clean == judge.truth).double().mean()),
            "answers that stay": float((clean == predicted).double().mean()),
        }
        facts = {k: v for k, v in view.facts.items() if k != "pairs"}
        result = case.result(
            "style", VERSION, "accuracy", predicted[None], judge.truth, rows=judge.rows,
            head=judge.facts() | facts, label=f"accuracy, other {name}", notes=judge.notes, details=details,
        )  # fmt: skip
        found.append(result)
    return found


def _colours(judge: Judge, data: str | None) -> View:
    other: Source = judge.source
    facts = {"colours": "of other test images"}
    if data is not None:
        other = in_order(open_data(data, "none")).formed(judge.case.extractor.encoder.spec.form)
        readable = [row for row, key in enumerate(other.digests()) if key]
        if not readable:
            raise TapetumError(f"{data} has no image that can be read.")
        other = other.take(np.array(readable))
        facts = {"colours": other.fingerprint()}
    elif len(other) < 2:
        raise TapetumError("style takes the colours of other test images, and there is only one.")
    partner = of_another_row(len(judge.source), judge.case.seed, None if data is None else len(other))
    partner = partner[first_of_twins(judge.source)]
    return mixed(judge.source, other, partner, judge.case.extractor.encoder, facts, recoloured)


def _stains(most: float, seed: int) -> View:
    def apply(pixels: Tensor, keys: Tensor) -> Tensor:
        u = 2 * random.uniform(seed, 0, keys, "stains", (2, 3)).to(pixels.device) - 1
        return stained(pixels.float() / 255, 1 + most * u[:, 0], most * u[:, 1])

    return View({"stains": most, "seed": seed}, apply)
