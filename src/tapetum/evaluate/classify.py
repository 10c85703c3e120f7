"""What protocols that predict one class an image share: the rows, few labels, metrics, error bars."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tapetum.base.errors import TapetumError, unknown
from tapetum.evaluate.result import Result
from tapetum.evaluate.split import few
from tapetum.evaluate.store import Features
from tapetum.measure import metrics

METRICS = ("accuracy", "balanced_accuracy", "auroc")
Metric = Literal["accuracy", "balanced_accuracy", "auroc"]

# (training x [n, D], labels [n], test x [M, D], number of classes, seed) -> scores [M, C]
Classifier = Callable[[Tensor, Tensor, Tensor, int, int], Tensor]


def classify(
    name: str,
    version: int,
    head: dict[str, Any],
    classifier: Classifier,
    parts: tuple[Features, Features],
    *,
    metric: Metric = "accuracy",
    labels_per_class: int | None = None,
    draws: int = 5,
    seed: int = 0,
    split: str = "as given",
    details: dict[str, Any] | None = None,
) -> Result:
    """Train `classifier` on the first of two parts, score it on the second.

    With `labels_per_class` it learns from so many images of each class, `draws` times; the value is then the
    mean, and the error bar includes the choice of them. Images without a label, or that cannot be read, are
    left out. A test image of a class that training has not counts as wrong. `split` says where the parts are
    from.
    """
    train, test = parts
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    classes, x, y = _labelled(train, "training")
    test_classes, queries, named = _labelled(test, "test")
    number = {label: i for i, label in enumerate(classes)}
    new = [label for label in test_classes if label not in number]
    number |= {label: len(classes) + i for i, label in enumerate(new)}
    truth = torch.tensor([number[label] for label in test_classes])[named]  # [M]
    strangers = int((truth >= len(classes)).sum())
    if len(classes) < 2:
        raise TapetumError(
            f"{name} needs training images of at least 2 classes; {train.source.name} has {classes}."
        )
    if metric == "auroc" and (len(classes) != 2 or strangers or len(truth.unique()) != 2):
        raise TapetumError(
            f"auroc needs the same 2 classes in both parts; training has {classes}, test {test_classes}."
        )

    seeds = [seed + i for i in range(draws if labels_per_class else 1)]
    answers = []  # of each draw: the predicted class, or the score of the second class
    for draw in seeds:
        chosen = torch.from_numpy(few(y.numpy(), labels_per_class, draw)) if labels_per_class else slice(None)
        scores = classifier(x[chosen], y[chosen], queries, len(classes), draw)  # [M, C]
        answers.append(scores[:, 1] - scores[:, 0] if metric == "auroc" else scores.argmax(1))

    def value(rows: Tensor) -> Tensor:
        """The metric on these test rows, for each draw."""
        target = truth[rows] == 1 if metric == "auroc" else truth[rows]
        return torch.tensor([getattr(metrics, metric)(a[rows], target) for a in answers], dtype=torch.float64)

    each = value(torch.arange(len(truth)))
    error = metrics.bootstrap(lambda rows: float(value(rows).mean()), len(truth), seed)
    kind = "bootstrap over test images"
    if len(seeds) > 1:
        error = float(np.hypot(error, each.std() / len(seeds) ** 0.5))
        kind += ", and standard error over draws of labels, in squares"
    notes = []
    if strangers:
        notes.append(
            f"{strangers:,} test images of classes without training images count as wrong: {', '.join(new)}"
        )
    for part, stored in (("training", train), ("test", test)):
        if stored.damaged:
            notes.append(f"{len(stored.damaged):,} {part} images cannot be read and are left out")
    protocol = {
        "name": name,
        "version": version,
        "metric": metric,
        "split": split,
        "train": {"data": train.data, "images": len(y)},
        "test": {"data": test.data, "images": len(truth)},
        "labels_per_class": labels_per_class,
        "head": head,
        "schedule": None,
        "seeds": seeds,
    }
    return Result(
        name=f"{name} {metric}" + (f", {labels_per_class} labels a class" if labels_per_class else ""),
        value=float(each.mean()),
        error_bar=error,
        error_kind=kind,
        n=len(truth),
        seeds=seeds,
        protocol=protocol,
        subject=test.subject,
        notes=notes,
        details=details or {},
    )


def _labelled(stored: Features, part: str) -> tuple[list[str], Tensor, Tensor]:
    """The classes that occur, and features [n, D] and labels [n] into them of the rows that have both."""
    if stored.labels is None or stored.classes is None:
        raise TapetumError(f"the {part} data {stored.source.name} have no labels; give them with --labels.")
    there = stored.labels >= 0
    there[list(stored.damaged)] = False
    if not there.any():
        raise TapetumError(
            f"the {part} data {stored.source.name} have no image with a label that can be read."
        )
    numbers, labels = np.unique(stored.labels[there], return_inverse=True)
    x = torch.from_numpy(np.asarray(stored.x)[there])  # a copy in memory
    return [stored.classes[i] for i in numbers], x, torch.from_numpy(labels)
