"""How good are features, without any label? Their rank, their spread, and how they move with the image."""

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from tapetum import views
from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Amount, Positive
from tapetum.evaluate.altered import attacked, drawn, noisy
from tapetum.evaluate.case import Case
from tapetum.evaluate.result import Result
from tapetum.features import View
from tapetum.measure import hypersphere, manifold, spectrum
from tapetum.measure.metrics import jackknife

VERSION = 1
LABELS = False
SPLITS = "none"
LEAST = 20  # images, since a tenth of them is left out in turn

AS_THEY_ARE = {"RankMe": spectrum.rank_me, "stable rank": spectrum.nesum}
ABOUT_THE_MEAN = {
    "alpha-ReQ": spectrum.power_law,
    "NESum": spectrum.nesum,
    "participation ratio": spectrum.participation_ratio,
}


def protocol(
    case: Case,
    *,
    images: Annotated[int, LEAST] = 25_600,
    altered: Annotated[int, LEAST] = 256,
    draws: Annotated[int, 2] = 4,
    delta: Positive = 1e-4,
    alteration: Literal["noise", "attack"] = "noise",
    strengths: tuple[Amount, ...] = (0.02, 0.04, 0.06, 0.08),
) -> list[Result]:
    """Of the test images' features: RankMe, stable rank, alpha-ReQ, NESum, participation ratio, uniformity.
    Of some of the images, altered: alignment of their views (SimCLR's), LiDAR, and the RMQM of the path that
    features take under growing alteration. See measure.spectrum, measure.hypersphere and measure.manifold.

    Args:
        images: at most so many, drawn by the seed.
        altered: so many of them are altered, which needs the encoder.
        draws: views of each of these.
        delta: what LiDAR adds to the variance within images, in the features' own unit.
        alteration: white noise, or projected gradient ascent on the encoder's features.
        strengths: of the alteration, from weak to strong, at least two: the noise's standard deviation, or
            the largest change of a pixel; pixels lie in [0, 1].
    """
    if len(strengths) < 2:
        raise TapetumError(f"labelfree.strengths needs two or more, to compare steps; it is {strengths}.")
    there = np.flatnonzero(case.test.there)
    if len(there) < LEAST:
        raise TapetumError(f"labelfree needs {LEAST} images that can be read; there are {len(there)}.")
    lost = len(case.test) - len(there)
    notes = [f"{lost:,} images cannot be read and are left out"] if lost else []
    rows = _some(there, images, case.seed)
    found = _of_vectors(case, rows, {"images": images}, notes)
    if not case.has_encoder:
        note = "alignment, LiDAR and RMQM need the encoder and are left out"
        return [replace(result, notes=[*result.notes, note]) for result in found]
    few = _some(rows, altered, case.seed)
    head = {"images": images, "altered": altered}
    recipe = views.simclr()
    seen = _seen(case, few, [drawn(recipe, number, case.seed) for number in range(draws)])
    make = noisy if alteration == "noise" else partial(attacked, case.extractor)
    path = torch.cat([_vectors(case, few)[:, None], _seen(case, few, [make(s) for s in strengths])], 1)
    steps = manifold.steps(path)
    drawn_from = {**head, "draws": draws, "views": repr(recipe)}
    ladder = {**head, "alteration": alteration, "strengths": list(strengths)}
    ways = {
        name: float(of(steps).mean())
        for name, of in (("moved", manifold.moved), ("unsteadiness", manifold.unsteadiness))
    }
    return [
        *found,
        _of_each(case, few, "alignment", hypersphere.alignment(seen), drawn_from, notes),
        _lidar(case, seen, {**drawn_from, "delta": delta}, notes),
        _of_each(case, few, f"RMQM under {alteration}", manifold.rmqm(steps), ladder, notes, ways),
    ]


def _of_vectors(case: Case, rows: np.ndarray, head: dict[str, Any], notes: list[str]) -> list[Result]:
    """What needs no more than stored features."""
    x = _vectors(case, rows)
    found = []
    for measures, centred in ((AS_THEY_ARE, False), (ABOUT_THE_MEAN, True)):
        numbers = spectrum.measured(x, list(measures.values()), centred)
        found += [(name, *pair) for name, *pair in zip(measures, *(part.tolist() for part in numbers))]
    lacking = [
        f"{name} is left out: it takes 20 directions with variance"
        for name, value, _ in found
        if not np.isfinite(value)
    ]
    each = hypersphere.potential(x)
    found.append(
        ("uniformity", float(each.mean().log()), float(2 * each.std() / each.mean() / len(each) ** 0.5))
    )
    facts: dict[str, Any] = {"head": head, "notes": [*notes, *lacking], "n": len(rows)}
    kind = "infinitesimal jackknife over images"
    return [
        case.measured("labelfree", VERSION, name, value, error, error_kind=kind, label=name, **facts)
        for name, value, error in found
        if np.isfinite(value)
    ]


def _lidar(case: Case, seen: Tensor, head: dict[str, Any], notes: list[str]) -> Result:
    delta = head["delta"]
    value = spectrum.lidar(seen, delta)
    error = jackknife(lambda rows: torch.tensor([spectrum.lidar(seen[rows], delta)]), len(seen), case.seed)
    kind = f"jackknife over tenths of {len(seen):,} images"
    return case.measured(
        "labelfree",
        VERSION,
        "LiDAR",
        value,
        float(error),
        error_kind=kind,
        n=len(seen),
        label="LiDAR",
        head=head,
        notes=notes,
    )


def _of_each(
    case: Case,
    rows: np.ndarray,
    name: str,
    each: Tensor,
    head: dict[str, Any],
    notes: list[str],
    details: dict[str, float] | None = None,
) -> Result:
    """A mean over these images."""
    return case.result(
        "labelfree",
        VERSION,
        "mean",
        each[None],
        torch.zeros(len(each)),
        rows=rows,
        label=name,
        head=head,
        notes=notes,
        details=details or {},
    )


def _some(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """At most so many of the rows, drawn by the seed, in their order."""
    return np.sort(rows[random.order(seed, 0, len(rows)).numpy()[:most]])


def _vectors(case: Case, rows: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(case.test.x[rows], dtype=np.float32))


def _seen(case: Case, rows: np.ndarray, altered: list[View]) -> Tensor:
    """Features [n, V, D] of these test images under each of V alterations."""
    source = case.test.source.take(rows)
    return torch.from_numpy(np.stack([case.extractor.features(source, view=view).x for view in altered], 1))
