"""Retrieval: each test image looks for those like it, by class or by grades as revisited Oxford has them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count
from tapetum.data.open import open_data
from tapetum.evaluate import landmarks
from tapetum.evaluate.case import Case
from tapetum.evaluate.result import Result
from tapetum.evaluate.targets import labelled
from tapetum.measure import retrieval

VERSION = 1
SPLITS = "none"
Measures = dict[str, Callable[[np.ndarray], float]]


def protocol(
    case: Case,
    *,
    among: bool = False,
    at: tuple[Count, ...] = (1, 5, 10),
    ground_truth: str | None = None,
    distractors: str | None = None,
) -> list[Result]:
    """Images are ranked by cosine similarity. By default those of the query's class (of several: with one in
    common) are to be found among the training images: mAP, recall@k (is any of the k nearest right?),
    R-precision and MAP@R.

    With `ground_truth` no labels are needed: mAP and mP@k of the revisited Oxford and Paris at their levels
    easy, medium and hard (Radenovic et al. 2018, arXiv:1803.11285).

    Args:
        among: look among the other test images instead; it is so where there are no training images apart.
        at: the k of recall@k or mP@k.
        ground_truth: a JSON file {"imlist": [names], "qimlist": [names], "gnd": [{"easy": [places in imlist],
            "hard": [...], "junk": [...], "bbx": [left, top, right, bottom]}, ...]}; training images of these
            names are searched, test images are the queries, cut to their boxes.
        distractors: images that are no answer to any query, added to those that are searched.
    """
    if ground_truth:
        return _revisited(case, ground_truth, at, distractors)
    if case.kind == "number":
        raise TapetumError("retrieve looks for a class; labels of the kind 'number' have none.")
    among = among or case.alone
    data = labelled(case.test, case.test, case.kind) if among else case.labelled
    gallery, classes = (data.queries, data.truth) if among else (data.x, data.y)
    kinds = retrieval.same_class(classes.numpy(), data.truth.numpy(), among)
    if among and case.groups is not None:
        kinds = retrieval.apart(kinds, case.groups[data.rows])
    extra, fact = _distractors(case, distractors)
    kinds = retrieval.among_others(kinds, len(extra))
    measures: Measures = {"mAP": retrieval.average_precision}
    measures |= {f"recall@{k}": partial(retrieval.recall_at, k=k) for k in at}
    measures |= {"R-precision": retrieval.r_precision, "MAP@R": retrieval.map_at_r}
    scores = _scores(torch.cat([gallery, extra]), data.queries, kinds, measures)  # [m, measures]
    judged, notes = np.isfinite(scores[:, 0]), data.notes[-1:] if among else data.notes
    if among and not judged.all():
        notes = [*notes, f"{(~judged).sum():,} images have none of their class to find and are left out"]
    judged |= not among  # what has no training images of its class finds nothing
    return _results(case, np.nan_to_num(scores)[judged], list(measures), data.rows[judged], {
        "head": {"among": among, "distractors": fact}, "notes": notes,
    })  # fmt: skip


def _revisited(case: Case, file: str, at: tuple[int, ...], distractors: str | None) -> list[Result]:
    wanted = landmarks.read(file)
    places = landmarks.rows(wanted.gallery, case.train.paths, f"the training data {case.train.source.name}")
    asked = landmarks.rows(wanted.queries, case.test.paths, f"the test data {case.test.source.name}")
    extra, fact = _distractors(case, distractors)
    gallery = torch.cat([torch.from_numpy(case.train.x[places]), extra])
    queries, notes = case.test.x[asked], []
    if cut := case.has_encoder and any(wanted.boxes):
        queries = case.extractor.features(landmarks.cut(case.test.source.take(asked), wanted.boxes)).x
    elif any(wanted.boxes):
        notes.append("queries are not cut to their boxes, since only stored features are there")
    for part, x in (("searched images", gallery), ("queries", queries)):
        if lost := int(np.isnan(np.asarray(x)).any(1).sum()):
            notes.append(f"{lost:,} {part} cannot be read and count as last")
    found = []
    for level in retrieval.LEVELS:
        kinds = retrieval.graded(wanted.grades, level, len(gallery))
        measures: Measures = {f"{level} mAP": retrieval.trapezoid_precision}
        measures |= {f"{level} mP@{k}": partial(retrieval.revisited_precision_at, k=k) for k in at}
        scores = _scores(gallery, torch.from_numpy(np.array(queries)), kinds, measures)
        judged = np.isfinite(scores[:, 0])
        head = {"ground_truth": wanted.id, "level": level, "cut": bool(cut), "distractors": fact}
        if judged.any():
            found += _results(
                case, scores[judged], list(measures), asked[judged], {"head": head, "notes": notes}
            )
    return found


def _distractors(case: Case, data: str | None) -> tuple[torch.Tensor, str | None]:
    """Their features [n, D] and what names them."""
    if data is None:
        return torch.empty(0, case.test.x.shape[1]), None
    features = case.extractor.features(open_data(data, labels="none"))
    return torch.from_numpy(features.x[features.there]), features.data


def _scores(gallery: Any, queries: Any, kinds: Any, measures: Measures) -> np.ndarray:
    """[queries, measures]; not a number where a query has nothing to find."""
    ranks = retrieval.ranked(gallery, queries, kinds)
    return np.array([[measure(found) for measure in measures.values()] for found in ranks])


def _results(
    case: Case, scores: np.ndarray, names: list[str], rows: np.ndarray, facts: dict[str, Any]
) -> list[Result]:
    """A number for each column of scores [n, names] of the test images `rows` [n]."""
    if not len(rows):
        raise TapetumError(f"retrieve: no image of {case.test.source.name} has another of its class to find.")
    return [
        case.result(
            "retrieve", VERSION, "mean", column[None], rows, rows=rows, label=f"retrieve {name}", **facts
        )
        for name, column in zip(names, scores.T)
    ]
