"""Few labels: the same heads on 1, 2, 5, 10, 25 labelled images a class, and on 1 % and 10 % of them."""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import torch

from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Share
from tapetum.evaluate.case import Case
from tapetum.evaluate.learn import Learner, answers, truth
from tapetum.evaluate.protocols import knn, linear, logistic
from tapetum.evaluate.result import Result
from tapetum.evaluate.split import few

VERSION = 1
Head = Literal["knn", "linear", "logistic"]


def protocol(
    case: Case,
    *,
    counts: tuple[Count, ...] = (1, 2, 5, 10, 25),
    shares: tuple[Share, ...] = (0.01, 0.1),
    draws: Annotated[int, 2, 1000] = 5,
    heads: tuple[Head, ...] = ("logistic",),
) -> list[Result]:
    """The value is a mean over draws of the labelled images; the error bar includes their choice.

    Args:
        counts: labelled images a class; a class that has fewer gives all.
        shares: of all labelled images, each class with its share and at least one.
        draws: how often they are chosen.
        heads: what learns from them.
    """
    if case.kind != "class":
        raise TapetumError(
            f"fewlabels chooses images by their class; labels of the kind {case.kind!r} have none."
        )
    data = case.labelled
    size = np.bincount(data.y.numpy(), minlength=data.width)
    wanted: list[tuple[str, np.ndarray]] = [
        (f"{n} label{'s' * (n > 1)} a class", np.full(data.width, n)) for n in counts
    ]
    wanted += [
        (f"{share:.2g} of the labels", np.maximum(1, np.round(share * size)).astype(int)) for share in shares
    ]
    found = []
    for head in heads:
        for words, most in wanted:
            if (most < size).any():  # else there is nothing to choose
                found.append(_few(case, head, words, most, draws))
    if not found:
        raise TapetumError(
            f"fewlabels: no class has more than {size.max()} labelled images, so none can be left out."
        )
    return found


def _few(case: Case, head: Head, words: str, most: np.ndarray, draws: int) -> Result:
    data, learner = case.labelled, _learner(head)
    seeds = [case.seed + draw for draw in range(draws)]
    each = []
    for seed in seeds:
        chosen = torch.from_numpy(few(data.y.numpy(), most, seed))
        each.append(answers(learner(data.x[chosen], data.y[chosen], data.queries, data.width, seed), case))
    facts = {"head": head, "version": VERSIONS[head], "labels": words}
    label = f"{head} {case.metric}, {words}".replace("_", " ")
    return case.result(
        "fewlabels", VERSION, case.metric, torch.stack(each), truth(case), rows=data.rows, head=facts,
        seeds=seeds, notes=data.notes, label=label,
    )  # fmt: skip


VERSIONS = {"knn": knn.VERSION, "linear": linear.VERSION, "logistic": logistic.VERSION}


def _learner(head: Head) -> Learner:
    makers: dict[str, Callable[[], Learner]] = {
        "knn": knn.learner,
        "linear": linear.learner,
        "logistic": logistic.learner,
    }
    return makers[head]()
