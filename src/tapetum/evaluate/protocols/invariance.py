"""Invariance and equivariance of features to the operations that views are made of."""

from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum import views
from tapetum.base import random
from tapetum.base.errors import TapetumError, unknown
from tapetum.data.source import Source
from tapetum.evaluate.altered import drawn
from tapetum.evaluate.case import Case
from tapetum.evaluate.result import Result
from tapetum.features import View
from tapetum.features.extract import seed as seed_of
from tapetum.measure.logistic import ridge_path
from tapetum.views import engine
from tapetum.views.operation import Operation

VERSION = 1
LABELS = False
SPLITS = "none"
PENALTIES = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)
COLLAPSED = 1e-4  # cosines of different images this near to 1 leave nothing to compare with
# Each operation at a strength of (0, 1].
OPERATIONS: dict[str, Callable[[float], Operation]] = {
    "crop": lambda s: views.Crop(scale=(1 - 0.9 * s, 1)),
    "flip": lambda s: views.Flip(1),
    "shift": lambda s: views.Shift(0.25 * s),
    "rotate": lambda s: views.Rotate((-90 * s, 90 * s)),
    "elastic": lambda s: views.Elastic((0, 100 * s), p=1),
    "brightness": lambda s: views.Brightness((1 - 0.8 * s, 1 + 0.8 * s)),
    "contrast": lambda s: views.Contrast((1 - 0.8 * s, 1 + 0.8 * s)),
    "saturation": lambda s: views.Saturation((1 - 0.8 * s, 1 + 0.8 * s)),
    "hue": lambda s: views.Hue((-0.5 * s, 0.5 * s)),
    "gray": lambda s: views.Gray(1),
    "blur": lambda s: views.Blur(1, (0.1, 0.1 + 5.9 * s)),
    "noise": lambda s: views.Noise((0, 0.3 * s)),
}


def protocol(
    case: Case,
    *,
    operations: tuple[str, ...] = ("crop", "flip", "rotate", "brightness", "hue", "blur"),
    strengths: tuple[Annotated[float, 0.01, 1], ...] = (1.0,),
    images: Annotated[int, 2] = 500,
    train_images: Annotated[int, 10] = 1000,
) -> list[Result]:
    """Each image is changed once by each operation, by amounts of its own. Three numbers for each:

    invariance: by how much an image and its changed twin are more alike (in cosine similarity) than an image
    and the twins of others, over what is left up to 1: 1 for features that ignore the change, 0 for those
    that are no better than chance, as of an encoder that has collapsed.
    equivariance: the share of the variance of the changed features (R²) that a linear map of the clean ones,
    fitted on training images, explains on test images.
    amounts: the share of the variance of the change's amounts (angle, place and size of a crop ...) that a
    linear map of both features explains; not for changes without an amount.

    No labels are needed. Of one set of images a random half is for training.

    Args:
        operations: crop, flip, shift, rotate, elastic, brightness, contrast, saturation, hue, gray, blur,
            noise.
        strengths: of the operations; 1 is a crop down to 10 % of the area, 90 degrees, a factor of 0.2 to
            1.8, half a turn of the hue, a blur by up to 6 of 224 pixels.
        images, train_images: at most so many of each part.
    """
    for name in operations:
        if name not in OPERATIONS:
            raise unknown("operation", name, OPERATIONS)
    seen, judged, rows = _parts(case, images, train_images)
    x, queries = _features(case, seen, None), _features(case, judged, None)
    found = []
    for name in dict.fromkeys(operations):
        for strength in strengths:
            operation = OPERATIONS[name](strength)
            view = drawn(views.View((operation,)), 0, case.seed)
            pair = _features(case, seen, view), _features(case, judged, view)
            amounts = [_amounts(operation, s.digests(), case) for s in (seen, judged)]
            words = f"{name} at {strength:g}" if len(strengths) > 1 else name
            facts = {"operation": repr(operation), "images": len(judged), "train images": len(seen)}
            found += _results(
                case, words, facts, rows, (x, pair[0], amounts[0]), (queries, pair[1], amounts[1])
            )
    return found


def invariance(clean: Tensor, twin: Tensor) -> tuple[Tensor, float, float]:
    """Features of images and of their changed twins [m, D] -> what each adds [m] to the invariance, the mean
    cosine of twins, and that of different images."""
    a, b = F.normalize(clean.double(), dim=1), F.normalize(twin.double(), dim=1)
    alike = (a * b).sum(1)
    others = (a @ b.sum(0) - alike) / (len(a) - 1)
    room = 1 - float(others.mean())
    each = (alike - others) / room if room > COLLAPSED else torch.zeros_like(alike)
    return each, float(alike.mean()), float(others.mean())


def explained(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], seed: int) -> Tensor:
    """What each test row adds [m] to the R² of a linear map from x [n, D] to y [n, K], a mean over the
    columns of y weighted by their variance. The map's penalty is chosen on a fifth of the training rows."""
    x, y = train
    queries, truth = test
    mean, std = x.mean(0), x.std(0, correction=0).clamp(min=1e-6 * float(x.std(0).max()) + 1e-12)
    x, queries = (x - mean) / std, (queries - mean) / std
    out = random.uniform(seed, 0, torch.arange(len(x)), "held out") < 0.2
    out[0] = True
    paths = ridge_path(x[~out], y[~out], PENALTIES)
    losses = [float((_applied(x[out], *line) - y[out]).square().sum()) for line in paths]
    penalty = PENALTIES[int(np.argmin(losses))]
    missed = (_applied(queries, *next(ridge_path(x, y, [penalty]))) - truth).double().square().sum(1)
    spread = (truth - truth.mean(0)).double().square().sum(1).mean()
    return 1 - missed / spread


def _applied(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(x, weight.to(x.dtype), bias.to(x.dtype))


def _results(
    case: Case,
    words: str,
    facts: dict,
    rows: np.ndarray,
    train: tuple[Tensor, Tensor, Tensor],
    test: tuple[Tensor, Tensor, Tensor],
) -> list[Result]:
    """From clean features, changed ones and amounts of both parts."""
    (x, y, given), (queries, truth, asked) = train, test
    each, alike, others = invariance(queries, truth)
    notes = []
    if 1 - others <= COLLAPSED:
        notes.append(
            f"{words}: features of different images have a cosine of {others:.5f}: they have collapsed"
        )
    unmoved = 1 - (queries - truth).double().square().sum() / (truth - truth.mean(0)).double().square().sum()
    linear = explained((x, y), (queries, truth), case.seed)
    details = {
        "cosine of twins": alike,
        "cosine of others": others,
        "R² of the clean features": float(unmoved),
    }
    numbers = {f"invariance to {words}": each, f"equivariance to {words}": linear}
    if asked.shape[1]:
        both = torch.cat([x, y], 1), torch.cat([queries, truth], 1)
        scale = given.std(0)
        columns = explained((both[0], given / scale), (both[1], asked / scale), case.seed)
        numbers[f"amount of {words}"] = columns
    return [
        case.result(
            "invariance", VERSION, "mean", values.numpy()[None], np.zeros(len(rows)), rows=rows, head=facts,
            label=label, notes=notes, details=details,
        )
        for label, values in numbers.items()
    ]  # fmt: skip


def _parts(case: Case, images: int, train_images: int) -> tuple[Source, Source, np.ndarray]:
    """Training images, test images and the latters' rows: readable ones, drawn at random."""
    there = np.flatnonzero(case.test.there)
    drawn = there[random.order(case.seed, 0, len(there)).numpy()]
    if case.alone:
        half = len(drawn) // 2
        rows, seen = np.sort(drawn[:half][:images]), np.sort(drawn[half:][:train_images])
    else:
        rows, known = np.sort(drawn[:images]), np.flatnonzero(case.train.there)
        seen = np.sort(known[random.order(case.seed, 0, len(known)).numpy()][:train_images])
    if len(rows) < 2 or len(seen) < 10:
        raise TapetumError(
            f"invariance needs at least 10 training and 2 test images; these are {len(seen)} and {len(rows)}."
        )
    return case.train.source.take(seen), case.test.source.take(rows), rows


def _features(case: Case, source: Source, view: View | None) -> Tensor:
    return torch.from_numpy(np.array(case.extractor.features(source, view=view).x, dtype=np.float32))


def _amounts(operation: Operation, keys: list[bytes], case: Case) -> Tensor:
    """What the operation drew for images of these keys: [n, P], the columns that differ between images."""
    side = case.extractor.encoder.image_size
    index = torch.tensor([seed_of(key) for key in keys])
    size = torch.full((len(keys), 2), side)
    drawn = engine.parameters(views.View((operation,)), views.Draw(case.seed, 0, 0, index), size, side)
    columns = [v.float() for _, given in drawn for k, v in given.items() if k not in ("on", "key")]
    kept = [column for column in columns if float(column.std()) > 1e-6]
    return torch.stack(kept, 1) if kept else torch.empty(len(keys), 0)
