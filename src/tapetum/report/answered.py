"""What was answered for each image by a measured encoder: which classes are taken for which, and where."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.base.errors import TapetumError
from tapetum.data import open_data
from tapetum.data.place import place as place_of
from tapetum.data.source import Source
from tapetum.data.structure import split_name
from tapetum.evaluate.answers import Answers
from tapetum.evaluate.result import Result, answers_file
from tapetum.features import in_order

PREFERRED = ("logistic", "linear", "finetune", "svm", "knn")  # whose answers are shown, the first there is
MOST = 4096  # classes, of which a page has a square
OF_CLASSES = ("accuracy", "balanced_accuracy")


@dataclass
class Answered:
    """Args:
    result: the number behind which the answers stand.
    source: the images that were judged, in the order of their paths.
    rows: [n] which of them.
    truth, said: [n] numbers of classes; of several draws the most frequent answer.
    counts: float64 [C, C], rows are the truth; the mean over draws.
    classes: their names.
    """

    result: Result
    source: Source
    rows: np.ndarray
    truth: np.ndarray
    said: np.ndarray
    counts: np.ndarray
    classes: list[str]

    @property
    def shares(self) -> np.ndarray:
        """[C, C] of each class's images the share that was given each class."""
        return self.counts / self.counts.sum(1, keepdims=True).clip(1e-9)

    def pairs(self, most: int) -> list[tuple[int, int, float]]:
        """(truth, answer, share of the class), the most frequent mistakes first."""
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        truth, said = np.nonzero(wrong)
        order = np.argsort(-wrong[truth, said], kind="stable")[:most]
        shares = self.shares
        return [(i, j, float(shares[i, j])) for i, j in zip(truth[order].tolist(), said[order].tolist())]

    def worst(self, each: int = 2, most: int = 8) -> np.ndarray:
        """Rows of the source: `each` wrongly answered images of the most confused pairs of classes."""
        found: list[int] = []
        for i, j, _ in self.pairs(most):
            found += self.rows[(self.truth == i) & (self.said == j)][:each].tolist()
        return np.array(found[:most], dtype=np.int64)


def candidates(results: Sequence[Result]) -> list[Result]:
    """The encoder's results whose answers are one class an image, the preferred first."""
    own = [r for r in results if r.row == "encoder" and r.protocol.get("metric") in OF_CLASSES]
    own = [r for r in own if r.protocol.get("kind", "class") == "class"]
    order = {name: i for i, name in enumerate(PREFERRED)}
    return sorted(own, key=lambda r: order.get(r.protocol["name"], len(order)))


def read(file: Path, results: Sequence[Result], places: Sequence[Any], labels: Any) -> Answered | None:
    """The answers of the preferred result whose images are found in one of `places`; None without any."""
    for result in candidates(results):
        path = answers_file(file, result)
        test = result.protocol.get("test") or {}
        if not path.exists() or "data" not in test:
            continue
        answers = Answers.load(path)
        if answers.answers.ndim != 2:
            continue
        for source in parts(places, labels):
            if len(source) >= test.get("images", 0) and source.fingerprint() == test["data"]:
                return of(result, answers, source)
    return None


def parts(places: Sequence[Any], labels: Any) -> Iterator[Source]:
    """The images in each place, as a whole and by splits, in the order of measuring."""
    for place in places:
        try:
            whole = in_order(open_data(place, labels))
        except TapetumError:
            continue
        for name in ("test", "validation", "train"):
            if name in whole.splits:
                yield in_order(whole.part(name))
        yield whole


def around(place: Any) -> list[Any]:
    """Where images may lie beside those of a run: the folder of which photos.zip/train is a part."""
    if isinstance(place, str) and (path := place_of(place)).name != place and split_name(path.name):
        return [place, os.fspath(path.parent)]
    return [place]


def of(result: Result, answers: Answers, source: Source) -> Answered:
    """Answers beside the images [n] that they are about; names of classes are those of the images' labels.

    Raises TapetumError for answers that are not one of at most MOST classes for some of these images.
    """
    rows, names, n = answers.rows, source.label_names(), len(answers.rows)
    if not _fit(answers, len(source)):
        raise TapetumError(
            f"The answers of {result.name} are not shown: they are not one of at most {MOST:,} classes for "
            "each of these images."
        )
    truth, draws = answers.truth.astype(np.int64), answers.answers.astype(np.int64)
    called = {int(number): names[row] for number, row in zip(truth, rows)}
    count = int(max(truth.max(), draws.max())) + 1
    classes = [called.get(i) or _unseen(i, source, called) for i in range(count)]
    counts = np.zeros((count, count))
    for draw in draws:
        np.add.at(counts, (truth, draw), 1 / len(draws))
    votes, times = np.unique(np.arange(n) * count + draws, return_counts=True)  # image and answer in one
    votes = votes[np.lexsort((-times, votes // count))]  # of each image the most frequent first
    said = votes[np.unique(votes // count, return_index=True)[1]] % count
    return Answered(result, source, rows, truth, said, counts, classes)


def _fit(answers: Answers, images: int) -> bool:
    """Whether rows are of so many images, and truth and answers are whole numbers that classes may have."""
    rows, classes = answers.rows, np.append(answers.truth, answers.answers)
    return bool(
        answers.truth.ndim == 1
        and answers.answers.size
        and rows.dtype.kind in "iu"
        and ((rows >= 0) & (rows < images)).all()
        and ((classes >= 0) & (classes < MOST) & (classes == np.floor(classes))).all()
    )


def _unseen(number: int, source: Source, called: dict[int, str | None]) -> str:
    """The name of a class of which no image was judged."""
    names = source.classes or []
    free = number < len(names) and names[number] not in called.values()
    return names[number] if free else f"class {number}"
