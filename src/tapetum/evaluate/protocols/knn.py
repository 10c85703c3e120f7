"""Weighted nearest-neighbour vote on stored features (Wu et al. 2018, arXiv:1805.01978)."""

from tapetum.base.settings import Count, Positive
from tapetum.evaluate.case import Case
from tapetum.evaluate.learn import Learner, learn
from tapetum.evaluate.result import Result
from tapetum.measure.knn import knn_average, knn_scores

VERSION = 2


def protocol(case: Case, *, k: Count = 20, temperature: Positive = 0.07) -> Result:
    """The k training images nearest in cosine similarity s vote with weight exp(s / temperature).

    Args:
        k: how many vote.
        temperature: how much more the nearer ones count.
    """
    return learn(case, "knn", VERSION, {"k": k, "temperature": temperature}, learner(k, temperature))


def learner(k: int = 20, temperature: float = 0.07) -> Learner:
    """The vote, for any kind of labels."""

    def vote(x, y, queries, width, seed):
        if not y.is_floating_point():
            return knn_scores(x, y, queries, k, temperature, classes=width)
        return knn_average(x, y.reshape(len(y), -1), queries, k, temperature)

    return vote
