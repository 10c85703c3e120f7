"""Repeated stratified cross-validation: many cases of one set of images, and one result of theirs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tapetum.base.errors import TapetumError
from tapetum.evaluate.answers import Answers, over_folds
from tapetum.evaluate.case import Case
from tapetum.evaluate.result import Result
from tapetum.evaluate.split import grouped_folds
from tapetum.evaluate.targets import Kind
from tapetum.features import Extractor, Features

FOLDS = 5
REPEATS = ((2_000, 5), (20_000, 1))  # up to so many images; beyond, one fold alone is held out


@dataclass(frozen=True)
class Plan:
    """fold: [repeats, N], the fold that tests each image, -1 for none; count: folds; once: only the first one
    is held out; how: the rest in words."""

    fold: np.ndarray
    count: int
    once: bool
    how: str

    def split(self, once: bool) -> str:
        """How the parts came about, for people and for the protocol's id."""
        return (f"one fold of {self.count}" if once else f"{len(self.fold)} x {self.count} folds") + self.how


def plan(
    stored: Features, kind: Kind, seed: int, groups: np.ndarray | None, named: str, repeats: int | None
) -> Plan:
    """Folds of the images that have a label and can be read; k is 5, or the groups of the rarest class.

    Args:
        groups: [N], images that must not be parted (those of one patient, duplicates).
        named: what these are, for the protocol's id.
        repeats: how often; by default 5 times below 2,000 images and once above.

    Raises TapetumError where no two folds can be made.
    """
    assert stored.labels is not None
    rows = np.flatnonzero((stored.labels >= 0) & stored.there)
    strata = stored.labels[rows] if kind == "class" else np.zeros(len(rows), dtype=np.int64)
    if kind == "number":
        names = stored.source.label_names()
        values = np.array([float(names[row] or 0) for row in rows])
        strata = np.searchsorted(np.quantile(values, [0.2, 0.4, 0.6, 0.8]), values)
    apart = rows if groups is None else groups[rows]
    counts = np.array([len(np.unique(apart[strata == label])) for label in np.unique(strata)])
    count = int(min(FOLDS, counts[counts > 1].min(initial=FOLDS)))
    if not (counts > 1).any():
        where = f" in two groups by {named}" if named else ""
        raise TapetumError(
            f"no class of {stored.source.name} has two images{where}: none can be held out; give test data."
        )
    often = repeats or next((times for most, times in REPEATS if len(rows) <= most), 0)
    once = often == 0
    fold = np.full((max(1, often), len(stored)), -1)
    for repeat in range(len(fold)):
        fold[repeat, rows] = grouped_folds(strata, apart, count, seed + repeat)
    how = ", stratified" + (f", never splitting {named}" if named else "") + f", seed {seed}"
    return Plan(fold, count, once, how)


def cases(
    stored: Features, plan: Plan, extractor: Extractor | None, once: bool, **settings: Any
) -> Iterator[tuple[int, int, np.ndarray, Case]]:
    """(repeat, fold, test rows, case) of each training; the first alone with `once`."""
    assert stored.labels is not None
    known = (stored.labels >= 0) & stored.there
    whole = {"images": int(known.sum()), "data": stored.data}
    single = once or plan.once
    split = plan.split(single)
    data = {"train": whole, "test": whole}
    for repeat, fold in enumerate(plan.fold[:1] if single else plan.fold):
        for number in range(1 if single else plan.count):
            test = np.flatnonzero(known & (fold == number))
            train = np.flatnonzero(known & (fold != number))
            many = {"one_of_many": not single, "data": data, "split": split}
            case = Case(stored.take(train), stored.take(test), extractor, **many, **settings)  # type: ignore[arg-type]
            yield repeat, number, test, case


def joined(found: list[tuple[int, int, np.ndarray, list[Result]]]) -> list[Result]:
    """One result for each that the folds gave, in the order of the first fold's."""
    if len(found) == 1:  # held out once: the rows are those of the whole set
        _, _, rows, results = found[0]
        return [
            r if r.answers is None else replace(r, answers=replace(r.answers, rows=rows[r.answers.rows]))
            for r in results
        ]
    columns = zip(*(results for *_, results in found))
    return [_joined([(*place[:3], result) for place, result in zip(found, column)]) for column in columns]


def _joined(parts: list[tuple[int, int, np.ndarray, Result]]) -> Result:
    results = [result for *_, result in parts]
    first, details = results[0], [r.details for r in results]
    notes = list(dict.fromkeys(note for r in results for note in r.notes))
    details_of_all = details[0] if all(d == details[0] for d in details) else {"folds": details}
    answers = None
    if first.answers is not None:
        answers = _answers([(repeat, number, at, r.answers) for repeat, number, at, r in parts if r.answers])
        value, error, interval, kind = answers.summary()
    else:
        share = 1 / max(1, len({number for _, number, *_ in parts}) - 1)
        value, error, interval, kind = over_folds(np.array([r.value for r in results]), share)
    return replace(
        first, value=value, error_bar=error, interval=interval, error_kind=kind, answers=answers, notes=notes,
        n=len(answers.rows) if answers else sum(r.n for r in results), details=details_of_all,
    )  # fmt: skip


def _answers(parts: list[tuple[int, int, np.ndarray, Answers]]) -> Answers:
    """Those of all folds, each repeat (and each draw within it) a row over all images."""
    places = [(repeat, number, rows[a.rows], a) for repeat, number, rows, a in parts]
    rows = np.unique(np.concatenate([at for _, _, at, _ in places]))
    first = parts[0][3]
    draws, repeats = len(first.answers), len({repeat for repeat, *_ in parts})
    answers = np.zeros((draws * repeats, len(rows), *first.answers.shape[2:]), dtype=first.answers.dtype)
    truth = np.zeros((len(rows), *first.truth.shape[1:]), dtype=first.truth.dtype)
    fold = np.zeros((draws * repeats, len(rows)), dtype=np.int16)
    for repeat, number, at, a in places:
        columns = np.searchsorted(rows, at)
        here = slice(repeat * draws, (repeat + 1) * draws)
        answers[here, columns], truth[columns], fold[here, columns] = a.answers, a.truth, number
    share = 1 / max(1, len({number for _, number, *_ in parts}) - 1)
    return Answers(first.metric, answers, truth, rows, fold, share, first.seed)
