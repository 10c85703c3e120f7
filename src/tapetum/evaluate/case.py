"""What a protocol is given: features of the images that it learns from and of those that judge."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from torch import Tensor

from tapetum.base.errors import TapetumError, unknown
from tapetum.data.source import Source
from tapetum.evaluate.answers import Answers
from tapetum.evaluate.result import Result
from tapetum.evaluate.targets import Kind, Labelled, labelled
from tapetum.features import Extractor, Features, View
from tapetum.features.extract import Out
from tapetum.measure.metrics import OF_KIND

Part = Literal["train", "test"]


def checked(metric: str | None, kind: Kind) -> str:
    """The metric, if it fits the kind of labels; by default what is usual for it. Raises TapetumError."""
    if kind not in OF_KIND:
        raise unknown("kind of labels", kind, OF_KIND)
    if metric is not None and metric not in OF_KIND[kind]:
        raise unknown(f"metric for labels of the kind {kind!r}:", metric, OF_KIND[kind])
    return metric or OF_KIND[kind][0]


class Case:
    """One encoder on one pair of training and test images.

    Args:
        train, test: images, whose features are computed when they are first asked for, or features.
        extractor: the encoder and how its features are computed; only stored features can do without.
        split: how the parts came about, in words.
        seed: of all that a protocol draws.
        kind: what labels are: one class, several classes, or a number.
        metric: what is measured; by default what is usual for the kind.
        twins: bool [test images], those that lie among the training images too.
        data: facts of the two parts for the protocol's id, where they are parts of something that names them.
        alone: both parts are the same images, for protocols that need no others.
        groups: [test images], those that must not answer for each other where `alone`.
        one_of_many: a fold, whose results are joined with others' and need no error of their own.
    """

    def __init__(
        self,
        train: Source | Features,
        test: Source | Features,
        extractor: Extractor | None = None,
        *,
        split: str = "as given",
        seed: int = 0,
        kind: Kind = "class",
        metric: str | None = None,
        twins: np.ndarray | None = None,
        data: dict[str, Any] | None = None,
        alone: bool = False,
        groups: np.ndarray | None = None,
        one_of_many: bool = False,
    ):
        self._parts = {"train": train, "test": test}
        self._extractor, self.split, self.seed, self.kind, self.twins = extractor, split, seed, kind, twins
        self.metric = checked(metric, kind)
        self._data, self.alone, self.groups = data, alone, groups
        self.one_of_many = one_of_many

    @property
    def extractor(self) -> Extractor:
        """The encoder, and how its features are computed. Raises TapetumError where only features are."""
        if self._extractor is None:
            raise TapetumError("this protocol needs the encoder itself; stored features are not enough.")
        return self._extractor

    @property
    def has_encoder(self) -> bool:
        return self._extractor is not None

    @cached_property
    def train(self) -> Features:
        """Vectors [N, D] of the training images."""
        return self.of("train")

    @cached_property
    def test(self) -> Features:
        """Vectors [N, D] of the test images."""
        return self.train if self.alone else self.of("test")

    def of(self, part: Part, out: Out = "vector", view: View | None = None) -> Features:
        """Any features of the images of a part, in the order of `case.train` or `case.test`."""
        held = self._parts[part]
        if isinstance(held, Features):
            return (
                held if (out, view) == ("vector", None) else self.extractor.features(held.source, out, view)
            )
        return self.extractor.features(held, out, view)

    @cached_property
    def labelled(self) -> Labelled:
        """What can be learnt from and judged by. Raises TapetumError without labels of the case's kind."""
        found = labelled(self.train, self.test, self.kind)
        if self.metric == "auroc" and (len(found.classes) != 2 or len(found.truth.unique()) != 2):
            raise TapetumError(
                f"auroc needs the same 2 classes in both parts; training has {found.classes}, test "
                f"{len(found.truth.unique())}."
            )
        return found

    def result(
        self,
        name: str,
        version: int,
        metric: str,
        answers: Tensor | np.ndarray,
        truth: Tensor | np.ndarray,
        *,
        rows: np.ndarray | None = None,
        label: str = "",
        **facts: Any,
    ) -> Result:
        """A number that is a mean over draws of a metric over images.

        Args:
            name, version: of the protocol.
            metric: one of measure.metrics; "mean" of answers that are scores of single images or queries.
            answers, truth: [draws, n, ...] and [n, ...].
            rows: [n], the test images that these belong to; by default all.
            label: what the number is called; by default the protocol's name and the metric.
            facts: head, schedule, seeds, notes, details; see `measured`.
        """
        rows = np.arange(len(truth)) if rows is None else rows
        kept = Answers(metric, np.asarray(answers), np.asarray(truth), rows, seed=self.seed)
        value, error, interval, kind = kept.plain() if self.one_of_many else kept.summary()
        details = dict(facts.pop("details", {}))
        if self.twins is not None and 0 < (left := int(self.twins[rows].sum())) < len(rows):
            clean = float(kept.values(~self.twins[rows]).mean())
            details["without_duplicates"] = {"value": clean, "left_out": left, "n": len(rows) - left}
        return self.measured(
            name, version, metric, value, error, interval=interval, error_kind=kind, n=len(rows), label=label,
            details=details, answers=kept, **facts,
        )  # fmt: skip

    def measured(
        self,
        name: str,
        version: int,
        metric: str,
        value: float,
        error: float,
        *,
        error_kind: str,
        n: int,
        interval: tuple[float, float] | None = None,
        label: str = "",
        head: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
        notes: Sequence[str] = (),
        details: dict[str, Any] | None = None,
        answers: Answers | None = None,
    ) -> Result:
        """A number that brings its own error.

        Args:
            n: how many images, or episodes, stand behind it.
            interval: of 95 %; by default 1.96 errors to both sides.
            head, schedule: all settings that could have been otherwise; part of the protocol's id.
            seeds: of what was drawn; by default the case's.
        """
        seeds = list(seeds or [self.seed])
        data = self._data or {
            part: {"data": there.data, "images": len(there)}
            for part, there in (("train", self.train), ("test", self.test))
        }
        protocol = {
            "name": name,
            "version": version,
            "metric": metric,
            "number": label,
            "kind": self.kind,
            "split": self.split,
            **data,
            "head": head or {},
            "schedule": schedule,
            "seeds": seeds,
        }
        return Result(
            name=label or f"{name} {metric}".replace("_", " "),
            value=float(value),
            error_bar=float(error),
            interval=interval or (value - 1.96 * error, value + 1.96 * error),
            error_kind=error_kind,
            n=n,
            seeds=seeds,
            protocol=protocol,
            subject=self.test.subject,
            notes=list(notes),
            details=details or {},
            answers=answers,
        )
