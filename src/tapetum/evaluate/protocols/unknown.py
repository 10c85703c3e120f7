"""Are images of unknown classes told from known ones? Every score of measure.unknown, by AUROC and others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Share
from tapetum.data.open import open_data
from tapetum.evaluate.answers import Answers
from tapetum.evaluate.case import Case
from tapetum.evaluate.known import known
from tapetum.evaluate.regression import HEAD, regression
from tapetum.evaluate.result import Result
from tapetum.measure import metrics, unknown

VERSION = 1
Score = Literal[
    "max_softmax", "max_logit", "energy", "entropy", "knn", "mahalanobis", "relative_mahalanobis", "vim",
    "residual", "cosine",
]  # fmt: skip
SCORES: tuple[Score, ...] = get_args(Score)
NAMES = {"auroc": "AUROC", "average_precision": "AUPR", "fpr95": "FPR95"}


@dataclass(frozen=True)
class Parted:
    """x, y, width: training rows of known classes; queries: test rows; strange: [m], which are unknown; rows:
    which test images they are, None where some lie elsewhere; facts: for the protocol's id; notes."""

    x: Tensor
    y: Tensor
    width: int
    queries: Tensor
    strange: Tensor
    rows: np.ndarray | None
    facts: dict[str, Any]
    notes: list[str]


def protocol(
    case: Case,
    *,
    data: str | None = None,
    classes: Share = 0.2,
    k: Count = 50,
    scores: tuple[Score, ...] = SCORES,
    beside: tuple[Score, ...] = ("max_softmax", "knn"),
) -> list[Result]:
    """Scores are those of measure.unknown; logits come from the regression of the protocol "logistic". AUROC
    for each of them; for some AUPR and FPR95 too, which is the share of known images that score as high as
    the highest 95 % of the unknown ones. In all three the unknown images are the positive ones, as in
    ImageNet-O and pytorch-ood; with the known ones as positive they stand in the details.

    Args:
        data: unknown images, whose labels do not matter; then all classes are learnt. ImageNet-O is such a
            set. By default some classes are kept from training.
        classes: the share of the classes that is kept from training, at least one, drawn by the seed; 0
            keeps none, and test images of classes that training has not are the unknown ones.
        k: the neighbour whose distance is the score "knn".
        scores: which ones.
        beside: of which of them AUPR and FPR95 are results too.
    """
    parted = _outside(case, data) if data is not None else _kept(case, classes)
    found = _scored(parted, case.seed, k, scores)
    asked = [(name, "auroc") for name in scores]
    asked += [
        (name, metric) for name in scores if name in beside for metric in ("average_precision", "fpr95")
    ]
    return [_result(case, parted, name, metric, found[name], k) for name, metric in asked]


def _kept(case: Case, share: float) -> Parted:
    """Some classes are kept from training: their test images are unknown."""
    if not share:
        return _strangers(case)
    data = known(case, "unknown")
    count = max(1, round(share * data.width))
    if data.width - count < 2:
        raise TapetumError(
            f"unknown keeps {count} of {data.width} classes from training and needs 2 more; "
            "give unknown images with --unknown.data."
        )
    u = random.uniform(case.seed, 0, torch.arange(data.width), "unknown classes")
    u[torch.bincount(data.truth, minlength=data.width) == 0] = 2  # cannot be asked for
    away = torch.zeros(data.width, dtype=torch.bool)
    away[u.argsort()[:count]] = True
    strange = away[data.truth]
    if strange.all():
        raise TapetumError(
            "unknown needs test images of classes that it does not keep from training; there are none."
        )
    names = [data.classes[i] for i in away.nonzero()[:, 0].tolist()]
    number = (~away).cumsum(0) - 1  # of the classes that stay
    left = ~away[data.y]
    notes = [
        *data.notes,
        f"unknown are {int(strange.sum()):,} test images of classes kept from training: {', '.join(names)}",
    ]
    return Parted(
        data.x[left], number[data.y[left]], data.width - count, data.queries, strange, data.rows,
        {"kept_from_training": names}, notes,
    )  # fmt: skip


def _strangers(case: Case) -> Parted:
    """Test images of classes that training has not are unknown."""
    known(case, "unknown")
    data = case.labelled
    strange = data.truth >= data.width
    if not strange.any():
        raise TapetumError(
            "all test images are of classes that training has; give unknown images with --unknown.data."
        )
    notes = [f"unknown are {int(strange.sum()):,} test images of classes without training images"]
    return Parted(
        data.x, data.y, data.width, data.queries, strange, data.rows, {"kept_from_training": []}, notes
    )


def _outside(case: Case, data: str) -> Parted:
    """The images of another set are unknown."""
    inside = known(case, "unknown")
    there = case.extractor.features(open_data(data, "none"))
    x = torch.from_numpy(np.array(there.x[there.there], dtype=np.float32))
    strange = torch.arange(len(inside.queries) + len(x)) >= len(inside.queries)
    notes = [*inside.notes, f"unknown are {len(x):,} images of {there.source.name}"]
    if there.damaged:
        notes.append(f"{len(there.damaged):,} unknown images cannot be read and are left out")
    queries = torch.cat([inside.queries, x])
    facts = {"unknown": {"data": there.data, "images": len(there)}}
    return Parted(inside.x, inside.y, inside.width, queries, strange, None, facts, notes)


def _scored(parted: Parted, seed: int, k: int, scores: tuple[Score, ...]) -> dict[str, Tensor]:
    """How unknown each test row is, by each score: float64 [m]."""
    x, y, width, queries = parted.x, parted.y, parted.width, parted.queries
    of_features: dict[str, Callable[[], Tensor]] = {
        "knn": lambda: unknown.knn_distance(x, queries, k),
        "mahalanobis": lambda: unknown.mahalanobis(x, y, queries, width),
        "relative_mahalanobis": lambda: unknown.relative_mahalanobis(x, y, queries, width),
        "cosine": lambda: unknown.class_mean_cosine(x, y, queries, width),
    }
    found: dict[str, Tensor] = {name: of_features[name]() for name in scores if name in of_features}
    if len(found) == len(set(scores)):
        return found
    fitted = regression(x, y, width, seed)
    logits, weight, bias = fitted(queries), fitted.weight, fitted.bias
    of_logits: dict[str, Callable[[], Tensor]] = {
        "max_softmax": lambda: unknown.max_softmax(logits),
        "max_logit": lambda: unknown.max_logit(logits),
        "energy": lambda: unknown.energy(logits),
        "entropy": lambda: unknown.entropy(logits),
        "vim": lambda: unknown.vim(x, queries, weight, bias),
        "residual": lambda: unknown.residual(x, unknown.origin(weight, bias))(queries),
    }
    return found | {name: of_logits[name]() for name in scores if name in of_logits}


def _result(case: Case, parted: Parted, name: str, metric: str, score: Tensor, k: int) -> Result:
    head = {**HEAD, **parted.facts, "score": name} | ({"k": k} if name == "knn" else {})
    other = {key: metrics.METRICS[key](-score, ~parted.strange) for key in ("average_precision", "fpr95")}
    both = {key: metrics.METRICS[key](score, parted.strange) for key in NAMES}
    facts: dict[str, Any] = {
        "head": head,
        "notes": parted.notes,
        "label": f"{NAMES[metric]} of {name}".replace("_", " "),
        "details": {"unknown_positive": both, "known_positive": other},
    }
    if parted.rows is not None:
        return case.result("unknown", VERSION, metric, score[None], parted.strange, rows=parted.rows, **facts)
    count = len(score)
    answers = Answers(metric, score[None].numpy(), parted.strange.numpy(), np.arange(count), seed=case.seed)
    value, error, interval, kind = answers.summary()
    return case.measured(
        "unknown", VERSION, metric, value, error, interval=interval, error_kind=kind, n=count, **facts
    )
