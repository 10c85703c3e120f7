"""Weighted nearest-neighbour vote on stored features (Wu et al. 2018, arXiv:1805.01978)."""

from typing import Any

from tapetum.evaluate.classify import classify
from tapetum.evaluate.result import Result
from tapetum.evaluate.store import Features
from tapetum.measure.knn import knn_scores

VERSION = 1


def protocol(
    train: Features, test: Features, *, k: int = 20, temperature: float = 0.07, **settings: Any
) -> Result:
    """The `k` training images nearest in cosine similarity s vote with weight exp(s / temperature).

    `settings`: metric, labels_per_class, draws, seed; see `classify`.
    """

    def vote(x, y, queries, classes, seed):
        return knn_scores(x, y, queries, k, temperature, classes=classes)

    return classify("knn", VERSION, {"k": k, "temperature": temperature}, vote, (train, test), **settings)
