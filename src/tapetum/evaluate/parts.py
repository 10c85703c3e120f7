"""Which images a protocol learns from and which judge: given, found in the data, or made by folds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapetum.base.console import say, warn
from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.data.source import Source
from tapetum.evaluate import crossval, protocols
from tapetum.evaluate.baselines import pixels
from tapetum.evaluate.case import Case
from tapetum.evaluate.duplicates import Pairs, twins, united
from tapetum.evaluate.result import Result
from tapetum.evaluate.split import few
from tapetum.evaluate.suites import Entry
from tapetum.evaluate.targets import Kind
from tapetum.features import Extractor, in_order


@dataclass
class Parts:
    """Args:
    train: images to learn from.
    test: images that judge; None where folds of `train` do.
    kind, metric, seed: see Case.
    groups, named: [train images] those that must not be parted, and what they are; None where each is alone.
    twins: [test images] bool, those that lie among the training images too.
    repeats: of cross-validation; None chooses.
    notes: what a reader of any number on these images must know.
    """

    train: Source
    test: Source | None
    kind: Kind
    metric: str | None
    seed: int
    groups: np.ndarray | None = None
    named: str = ""
    twins: np.ndarray | None = None
    repeats: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def judged(self) -> Source:
        """The images that judge, in the order of the answers' rows."""
        return in_order(self.train if self.test is None else self.test)

    def measure(self, entry: Entry, extractor: Extractor) -> list[Result]:
        """What one protocol finds about one encoder."""
        protocol, splits = protocols.find(entry.name), protocols.splits(entry.name)
        settings: dict[str, Any] = {"kind": self.kind, "metric": self.metric, "seed": self.seed}
        if self.test is not None:
            case = Case(self.train, self.test, extractor, twins=self.twins, **settings)
            return _list(protocol(case, **entry.settings))
        if splits == "none":
            settings |= {"split": "all images", "alone": True, "groups": self.groups}
            case = Case(self.train, self.train, extractor, **settings)
            return _list(protocol(case, **entry.settings))
        stored = extractor.features(self.train)
        plan = crossval.plan(stored, self.kind, self.seed, self.groups, self.named, self.repeats)
        found = [
            (repeat, fold, rows, _list(protocol(case, **entry.settings)))
            for repeat, fold, rows, case in crossval.cases(
                stored, plan, extractor, splits == "once", **settings
            )
        ]
        return crossval.joined(found)


def _list(found: Result | list[Result]) -> list[Result]:
    return found if isinstance(found, list) else [found]


def prepare(
    train_data: Any,
    test_data: Any,
    *,
    labels: Any,
    kind: Kind,
    metric: str | None,
    seed: int,
    group_by: str | None,
    duplicates: bool,
    repeats: int | None,
    train_images: int | None,
    needs_labels: bool,
    how: dict[str, Any],
) -> Parts:
    """Open the data, say what they are, and look for duplicates.

    Of data with splits the training part is learnt from, and the test or validation part judges. `how` says
    how raw pixels are computed, by which duplicates are found. Raises TapetumError for data without labels.
    """
    whole = in_order(open_data(train_data, labels))
    train = whole.part("train") if "train" in whole.splits else whole
    other = whole if test_data is None else open_data(test_data, labels)
    name = next((name for name in ("test", "validation") if name in other.splits), None)
    if test_data is None and not ("train" in whole.splits and name):
        test = None
    else:
        test = in_order(other.part(name) if name else other)
    for part, source in (("training", train), ("test", test)):
        if source is not None:
            say(f"{part} data: {source.name}: {source.summary()}")
            if source.labels is None and needs_labels:
                raise TapetumError(
                    f"the {part} data {source.name} have no labels; give them with --labels, or measure "
                    "without any: --protocols labelfree."
                )
    if test is not None and train.fingerprint() == test.fingerprint():
        raise TapetumError("the test data are the training data; leave them out, and parts are held out.")
    if train_images and train.labels is not None and train_images < len(train):
        share = np.maximum(1, np.bincount(train.labels[train.labels >= 0]) * train_images // len(train))
        train = train.take(np.flatnonzero(few(train.labels, share, seed)))
        say(f"of the training data {len(train):,} images, each class with its share, seed {seed}")
    parts = Parts(train, test, kind, metric, seed, repeats=repeats)
    if group_by:
        if test is not None:
            raise TapetumError("--group-by is for folds; with test data nothing is parted here.")
        parts.groups, parts.named = _groups(train, group_by), group_by
    if duplicates:
        _look_for_duplicates(parts, how)
    return parts


def _groups(source: Source, name: str) -> np.ndarray:
    """[N] the group of each image; one without is alone."""
    values = source.column(name)
    alone = [value or f"\0{row}" for row, value in enumerate(values)]
    return np.unique(alone, return_inverse=True)[1]


def _look_for_duplicates(parts: Parts, how: dict[str, Any]) -> None:
    extractor = Extractor(pixels(parts.train.form), **how)
    train = extractor.features(parts.train)
    test = train if parts.test is None else extractor.features(parts.test)
    found = twins(train, test)
    if not found.looked:
        warn("there are too many images to compare their pictures: only equal contents count as duplicates")
    if not len(found.first):
        return
    equal = int(found.exact.sum())
    kinds = f"{equal:,} of equal content, {len(found.exact) - equal:,} that look the same"
    if parts.test is None:
        parts.groups = united(len(train), found, parts.groups)
        parts.named = " or ".join(filter(None, (parts.named, "duplicates")))
        note = f"{len(found.first):,} pairs of images are duplicates ({kinds}); they stay together"
    else:
        parts.twins = np.zeros(len(test), dtype=bool)
        parts.twins[found.second] = True
        shown = ", ".join(f"{test.paths[b]} = {train.paths[a]}" for a, b in _first(found, 2))
        count = f"{int(parts.twins.sum()):,} test images"
        note = f"{count} lie among the training images too ({kinds} pairs): {shown}"
    parts.notes = (*parts.notes, note)


def _first(found: Pairs, count: int) -> Iterator[tuple[int, int]]:
    yield from list(zip(found.first.tolist(), found.second.tolist()))[:count]
