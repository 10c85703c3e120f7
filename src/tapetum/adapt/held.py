"""What a head says of images that it has not learnt from: accuracy, temperature and threshold follow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.adapt.classifier import Head
from tapetum.base import random
from tapetum.evaluate.answers import Answers
from tapetum.evaluate.protocols import logistic
from tapetum.measure.calibration import expected_error, surprise, temperature
from tapetum.measure.logistic import logistic_path

BANK = 10_000  # training images whose features a classifier keeps, at most
MOST_NEAR = 10
PARTS = 5  # of images that were held out at one time, each calibrated by the others


def near(y: Tensor) -> int:
    """Which of the nearest training images counts, given labels [N]: the 10th, so that a single stray one
    vouches for nothing, or half as many as the smallest class has."""
    smallest = int(torch.bincount(y)[y.unique()].min())
    return min(MOST_NEAR, max(1, smallest // 2))


def ready(x: Tensor) -> Tensor:
    """Features in double precision where it is cheap, as the protocol `logistic` has them."""
    return x.double() if x.numel() <= 2**22 else x


def chosen(x: Tensor, y: Tensor, width: int, seed: int) -> float:
    """The penalty of logistic regression on features x [N, D] and labels y [N] below `width`."""
    return logistic.choose(ready(x), y, width, logistic.PENALTIES, seed)


def learnt(x: Tensor, y: Tensor, width: int, k: int, seed: int, penalty: float) -> Head:
    """The head of logistic regression."""
    mean, std = logistic.scale(exact := ready(x))
    weight, bias = next(logistic_path((exact - mean) / std, y, width, [penalty]))
    return headed(x, weight, bias, mean, std, k, seed)


def headed(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor, k: int, seed: int) -> Head:
    """A head with this linear layer on standardised features, and features x [N, D] as its bank."""
    kept = random.order(seed, 0, len(x))[:BANK].sort().values
    bank = F.normalize(((x[kept] - mean) / std).float(), dim=1)
    tensors = {"mean": mean, "std": std, "weight": weight, "bias": bias, "bank": bank}
    return Head(tensors, min(k, len(bank)))


@dataclass(frozen=True)
class Held:
    """Args:
    answers: [R, n], the classes in each of R repetitions, with all that was learnt or chosen without them.
    logits: [R, n, C], with the penalty of the head that is used in the end: a temperature holds for one.
    distance: [R, n], to the training images of that time.
    y: [n].
    learnt: bool [R, n], whether training had images of that class.
    fold: [R, n], in which fold an image was held out; one alone where all were at one time.
    count: how many folds there are.
    rows: [n], which of the images these are.
    seed: of what is drawn.
    """

    answers: Tensor
    logits: Tensor
    distance: Tensor
    y: Tensor
    learnt: Tensor
    fold: np.ndarray
    count: int
    rows: np.ndarray
    seed: int

    @property
    def right(self) -> Tensor:
        """bool [R, n]."""
        return self.answers == self.y

    def temperature(self, of: Tensor | None = None) -> float:
        """The one that makes probabilities fit; chosen by the images `of` bool [R, n] alone.

        One image more, of middling confidence, counts as wrong (as in Laplace's rule of succession): that all
        of n images are right does not mean that none will ever be wrong.
        """
        used = self.learnt if of is None else self.learnt & of
        logits, y = self.logits[used], self.y.expand(used.shape)[used]
        if not len(y):
            return 1.0
        top, which = logits.topk(2, dim=1)
        middle = int((top[:, 0] - top[:, 1]).argsort()[len(top) // 2])
        repeats = int(used.any(1).sum())
        wrong = logits[middle].expand(repeats, -1), which[middle, 1].expand(repeats)
        return temperature(torch.cat([logits, wrong[0]]), torch.cat([y, wrong[1]]))

    def calibrated(self) -> Tensor:
        """Logits [R, n, C], each over the temperature that images of other folds ask for."""
        out = self.logits.clone()
        fold = torch.from_numpy(self.fold)
        if len(fold.unique()) == 1:
            fold = (random.order(self.seed, 0, len(self.y)) % PARTS).expand(fold.shape)
        for repeat in range(len(out)):
            mine = torch.zeros_like(fold, dtype=torch.bool)
            mine[repeat] = True
            for number in fold[repeat].unique():
                here = fold[repeat] == number
                out[repeat, here] /= self.temperature(mine & (fold != number))
        return out

    def threshold(self, share: float) -> float:
        """The distance that this share of the images exceeds."""
        return float(np.quantile(self.distance.double().numpy(), 1 - share))

    def report(self, share: float) -> dict[str, Any]:
        """How good it is: accuracy, and calibration and the share of unlike images at that threshold."""
        folds = None if len(np.unique(self.fold)) == 1 else self.fold.astype(np.int16)
        kept = Answers(
            "accuracy",
            self.answers.numpy(),
            self.y.numpy(),
            self.rows,
            folds,
            1 / max(1, self.count - 1),
            self.seed,
        )
        value, error, interval, kind = kept.summary()
        found: dict[str, Any] = {
            "accuracy": value,
            "error_bar": error,
            "interval": [max(0.0, interval[0]), min(1.0, interval[1])],
            "error_kind": kind,
            "held_out": len(self.y),
        }
        for when, logits in (("before", self.logits), ("after", self.calibrated())):
            said, y = logits.flatten(0, 1), self.y.repeat(len(logits))
            confidence, answer = said.double().softmax(1).max(1)
            found[f"expected calibration error {when}"] = expected_error(confidence, answer == y)
            found[f"negative log-likelihood {when}"] = float(surprise(said, y).mean())
        far = self.distance > self.threshold(share)
        return found | {"flagged": float(far.double().mean())}


def cross_fitted(
    x: Tensor,
    y: Tensor,
    width: int,
    fold: np.ndarray,
    count: int,
    once: bool,
    seed: int,
    penalty: float,
    advance: Callable[[], object] = lambda: None,
) -> Held:
    """Every image's answer by heads that learnt from the other folds.

    Args:
        x, y: [N, D] and [N] below `width`.
        fold: [R, N] in range(count), -1 of rows that are never held out.
        once: hold out only the first fold of the first repetition.
        penalty: of the head that is used in the end; for the answers each fold chooses its own.
        advance: called after each fold.
    """
    parts, repeats = 1 if once else count, 1 if once else len(fold)
    logits = torch.zeros(repeats, len(y), width)
    answers = torch.zeros(repeats, len(y), dtype=torch.long)
    distance, there = torch.zeros(repeats, len(y)), torch.zeros(repeats, len(y), dtype=torch.bool)
    k = near(y)
    for repeat in range(repeats):
        for number in range(parts):
            out = torch.from_numpy(fold[repeat] == number)
            own = chosen(x[~out], y[~out], width, seed)
            heads = {p: learnt(x[~out], y[~out], width, k, seed, p) for p in (penalty, own)}
            logits[repeat, out], distance[repeat, out] = heads[penalty].of_many(x[out].float())
            answers[repeat, out] = heads[own].of_many(x[out].float())[0].argmax(1)
            there[repeat, out] = torch.isin(y[out], y[~out])
            advance()
    rows = np.flatnonzero(((fold[:repeats] >= 0) & (fold[:repeats] < parts)).all(0))
    found = answers[:, rows], logits[:, rows], distance[:, rows], y[rows], there[:, rows]
    return Held(*found, fold[:repeats, rows], count, rows, seed)


def held_out(head: Head, x: Tensor, y: Tensor, fold: np.ndarray, count: int, seed: int) -> Held:
    """The answers of a head that has learnt from all rows of x [N, D] and y [N] but those of fold [N] 0."""
    rows = np.flatnonzero(fold == 0)
    logits, distance = head.of_many(x[rows])
    there = torch.isin(y[rows], y[fold != 0])
    answers = logits.argmax(1)[None]
    return Held(
        answers, logits[None], distance[None], y[rows], there[None], fold[None, rows], count, rows, seed
    )
