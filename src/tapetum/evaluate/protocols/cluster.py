"""Clustering: k-means on the test images' features, and how well its clusters are the classes."""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count
from tapetum.evaluate.case import Case
from tapetum.evaluate.result import Result
from tapetum.evaluate.targets import labelled
from tapetum.measure import clustering
from tapetum.measure.metrics import bootstrap

VERSION = 1
SPLITS = "none"


def protocol(
    case: Case,
    *,
    clusters: Count | None = None,
    restarts: Count = 3,
    draws: Annotated[int, 2, 1000] = 5,
    normalise: bool = True,
) -> list[Result]:
    """Accuracy (clusters and classes paired one to one so that most images are right), NMI (over the mean of
    both entropies) and ARI, each a mean over draws of k-means. Training images are not looked at.

    Args:
        clusters: how many; by default as many as there are classes.
        restarts: of k-means in each draw, of which the best is kept.
        draws: of k-means; the error bar includes their spread.
        normalise: give all features the length 1 first.
    """
    if case.kind != "class":
        raise TapetumError(
            f"cluster needs one class an image; labels of the kind {case.kind!r} are not that."
        )
    data = labelled(case.test, case.test, case.kind)
    count = clusters or len(data.classes)
    if count > len(data.truth):
        raise TapetumError(
            f"cluster: {case.test.source.name} has {len(data.truth)} images for {count} clusters."
        )
    x = F.normalize(data.queries, dim=1) if normalise else data.queries
    seeds = [case.seed + draw for draw in range(draws)]
    found = torch.stack([clustering.kmeans(x, count, seed=seed, restarts=restarts)[1] for seed in seeds])
    facts: dict[str, Any] = {
        "head": {"clusters": clusters, "restarts": restarts, "normalised": normalise},
        "seeds": seeds,
        "notes": data.notes[-1:],  # both parts are the test images here
        "details": {"clusters": count},
    }
    named = torch.stack([clustering.matched(draw, data.truth) for draw in found])
    accuracy = case.result("cluster", VERSION, "accuracy", named, data.truth, rows=data.rows, **facts)
    measures = {"NMI": clustering.normalised_mutual_information, "ARI": clustering.adjusted_rand_index}
    return [accuracy, *(_agreement(case, name, f, found, data.truth, facts) for name, f in measures.items())]


def _agreement(
    case: Case,
    name: str,
    measure: Callable[[Tensor, Tensor], float],
    found: Tensor,
    truth: Tensor,
    facts: dict[str, Any],
) -> Result:
    """A measure of all images together, the mean over the draws `found` [draws, n]."""
    each = np.array([measure(draw, truth) for draw in found])
    chosen = bootstrap(lambda rows: measure(found[0][rows], truth[rows]), len(truth), case.seed)
    error = float(np.hypot(each.std(ddof=1) / len(each) ** 0.5, float(chosen.std())))
    facts = facts | {"error_kind": "bootstrap over test images, and standard error over draws, in squares"}
    label = f"cluster {name}"
    return case.measured(
        "cluster", VERSION, name, float(each.mean()), error, n=len(truth), label=label, **facts
    )
