"""How far two results of one protocol lie apart, and how surely: from their answers, image by image."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from tapetum.base.errors import TapetumError
from tapetum.evaluate.answers import Answers, over_folds
from tapetum.evaluate.result import Result, comparable
from tapetum.measure.metrics import METRICS, bootstrap
from tapetum.measure.paired import Z, bootstrap_mean, mcnemar, student, student_p, welch

SMALLER = ("error", "flip rate", "distance", "brier", "likelihood", "fpr", "false positive")
UNRANKED = ("labelfree",)  # protocols whose numbers are neither better nor worse


@dataclass(frozen=True)
class Difference:
    """Args:
    value: of the second result over the first.
    error_bar: one standard error of it.
    interval: from where to where it lies, at 95 %.
    p: how probable at least so large a difference is where there is none; nan where errors are not known.
    how: the test and the interval, in words.
    n: images, or folds, in pairs; 0 where there are none.
    only: how many images the first alone, and the second alone, answers rightly; of accuracy.
    """

    value: float
    error_bar: float
    interval: tuple[float, float]
    p: float
    how: str
    n: int = 0
    only: tuple[int, int] | None = None


def better(result: Result) -> int:
    """1 where more of this number is better, -1 where less is, 0 where it is neither."""
    if result.protocol.get("name") in UNRANKED:
        return 0
    words = f"{result.name} {result.protocol.get('metric', '')}".lower()
    return -1 if any(word in words for word in SMALLER) else 1


def difference(first: Result, second: Result, mine: Answers | None, other: Answers | None) -> Difference:
    """What `second` has over `first`; `mine` and `other` are their answers, None where there are none.

    Of folds: the corrected resampled t of Nadeau and Bengio (2003) on the differences fold by fold. Else a
    bootstrap that draws the same test images for both, together with the spread over draws where there are
    several; with one draw of accuracy, McNemar's exact test gives the probability. Without answers, errors
    add in squares as if nothing were shared, which says too little rather than too much.
    Raises TapetumError where protocols differ, or answers are not of the same images.
    """
    comparable([first, second])
    if mine is None or other is None:
        return _apart(first, second)
    a, b = aligned(mine, other)
    if a.fold is not None:
        return _folded(a, b)
    drawn = bootstrapped(a, b)
    if len(drawn) < 2:
        return _apart(first, second)
    n, each = len(a.truth), b.values() - a.values()
    value, parts = float(each.mean()), [(float(drawn.var()), float(n - 1))]
    if len(each) > 1:
        parts.append((float(each.var(ddof=1)) / len(each), len(each) - 1.0))
        error, freedom = welch(parts)
        half = error * student(freedom)
        how = f"paired bootstrap over {n:,} test images and spread over {len(each)} draws"
        return Difference(value, error, (value - half, value + half), _p(value, error, freedom, n), how, n)
    error, freedom = welch(parts)
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    how = f"paired bootstrap over {n:,} test images"
    if a.metric != "accuracy":
        return Difference(value, error, (low, high), _p(value, error, freedom, n), how, n)
    right, also = ((part.answers[0] == part.truth) for part in (a, b))
    only = int((right & ~also).sum()), int((also & ~right).sum())
    return Difference(value, error, (low, high), mcnemar(*only), f"McNemar's exact test; {how}", n, only)


def aligned(a: Answers, b: Answers) -> tuple[Answers, Answers]:
    """Both on the images that both answered. Raises TapetumError where these do not belong together."""
    rows, i, j = np.intersect1d(a.rows, b.rows, return_indices=True)
    one, two = _on(a, i), _on(b, j)
    same = one.truth.shape == two.truth.shape and np.array_equal(one.truth, two.truth)
    if one.fold is not None and two.fold is not None:
        same = same and np.array_equal(one.fold, two.fold)
    kinds = (a.metric, a.answers.shape[0], a.fold is None) == (b.metric, b.answers.shape[0], b.fold is None)
    if not (len(rows) and same and kinds):
        raise TapetumError("the answers kept beside two results are not of the same images; measure again.")
    return one, two


def _on(a: Answers, rows: np.ndarray) -> Answers:
    fold = None if a.fold is None else a.fold[:, rows]
    return Answers(a.metric, a.answers[:, rows], a.truth[rows], a.rows[rows], fold, a.share, a.seed)


def bootstrapped(a: Answers, b: Answers) -> torch.Tensor:
    """The difference of b over a on choices of the test images, each the same for both."""
    if a.metric in ("accuracy", "mean"):  # means of one number an image: drawn at one go
        right = [part.answers if part.metric == "mean" else part.answers == part.truth for part in (a, b)]
        gain = right[1].astype(np.float64) - right[0]
        each = torch.from_numpy(gain.mean((0, *range(2, gain.ndim))))
        return bootstrap_mean(each, a.seed)
    metric, truth = METRICS[a.metric], torch.from_numpy(a.truth)
    pairs = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in zip(a.answers, b.answers)]

    def gained(rows: torch.Tensor) -> float:
        there = truth[rows]
        return float(np.mean([metric(y[rows], there) - metric(x[rows], there) for x, y in pairs]))

    return bootstrap(gained, len(truth), a.seed)


def _folded(a: Answers, b: Answers) -> Difference:
    each = b.values() - a.values()
    value, error, interval, how = over_folds(each, a.share)
    p = _p(value, error, len(each) - 1, len(each))
    return Difference(value, error, interval, p, f"{how}, {len(each)} pairs", len(each))


def _apart(first: Result, second: Result) -> Difference:
    value = second.value - first.value
    error = math.hypot(first.error_bar, second.error_bar)
    p = math.erfc(abs(value) / error / math.sqrt(2)) if error else float(value == 0)
    how = "errors of both added in squares, for want of answers in pairs"
    return Difference(value, error, (value - Z * error, value + Z * error), p, how)


def _p(value: float, error: float, freedom: float, n: int) -> float:
    """By Student's t; never below what n pairs can show, were their signs thrown like coins."""
    if not value:
        return 1.0
    p = student_p(value / error, freedom) if error else 0.0
    return max(p, 2.0 ** (1 - n))
