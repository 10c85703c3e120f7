"""What was answered for each image, and what follows from it: the number, its error bar, its interval."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tapetum.base.errors import TapetumError
from tapetum.base.files import replacing
from tapetum.base.npz import check_npz
from tapetum.measure.metrics import METRICS, bootstrap
from tapetum.measure.paired import Z, student


@dataclass(frozen=True)
class Answers:
    """Args:
    metric: its name in measure.metrics.
    answers: [draws, n, ...], one draw for each choice of few labels or repetition of folds.
    truth: [n, ...].
    rows: [n], which test images these are.
    fold: [draws, n], in which fold an image was judged; None where one training served all.
    share: test images over training images, where there are folds.
    seed: of the bootstrap.
    """

    metric: str
    answers: np.ndarray
    truth: np.ndarray
    rows: np.ndarray
    fold: np.ndarray | None = None
    share: float = 0.0
    seed: int = 0

    def _check(self) -> None:
        """Raise ValueError where shapes or kinds do not fit together."""
        parts = [self.answers, self.truth, self.rows, *([] if self.fold is None else [self.fold])]
        n = self.answers.shape[1:2]
        fit = self.truth.shape[:1] == n == self.rows.shape
        fit &= self.fold is None or self.fold.shape == self.answers.shape[:2]
        if not n or not fit or any(part.dtype.kind not in "biuf" for part in parts):
            raise ValueError("their shapes do not fit together")

    def values(self, keep: np.ndarray | None = None) -> np.ndarray:
        """The metric for each draw [J], or for each fold of each draw; over the images `keep` [n] alone."""
        found = []
        for draw, answers in enumerate(self.answers):
            parts = [np.ones(len(self.truth), dtype=bool)]
            if self.fold is not None:
                parts = [self.fold[draw] == f for f in np.unique(self.fold[draw])]
            for part in parts:
                rows = np.flatnonzero(part if keep is None else part & keep)
                if len(rows):
                    found.append(self._metric(answers, rows))
        return np.array(found)

    def _metric(self, answers: np.ndarray, rows: np.ndarray) -> float:
        return METRICS[self.metric](torch.from_numpy(answers[rows]), torch.from_numpy(self.truth[rows]))

    def summary(self) -> tuple[float, float, tuple[float, float], str]:
        """The value, one standard error of it, its 95 % interval, and what the error goes over."""
        values = self.values()
        value = float(values.mean())
        if self.fold is not None:
            return over_folds(values, self.share)
        drawn = self._drawn()
        error = float(drawn.std()) if len(drawn) > 1 else float("nan")
        if len(values) == 1:
            low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
            return value, error, (low, high), "bootstrap over test images"
        error = float(np.hypot(error, values.std(ddof=1) / len(values) ** 0.5))
        kind = "bootstrap over test images, and standard error over draws, in squares"
        return value, error, (value - Z * error, value + Z * error), kind

    def plain(self) -> tuple[float, float, tuple[float, float], str]:
        """The same without an error: the value alone, at once."""
        nothing = float("nan")
        return float(self.values().mean()), nothing, (nothing, nothing), "of its own it has none"

    def _drawn(self) -> torch.Tensor:
        """The value on choices of the test images."""
        if self.metric in ("accuracy", "mean"):  # means of one number an image: drawn at one go
            right = self.answers if self.metric == "mean" else self.answers == self.truth
            each = torch.from_numpy(right.mean(0, dtype=np.float64))
            return bootstrap(lambda rows: float(each[rows].mean()), len(each), self.seed)

        def value(rows: torch.Tensor) -> float:
            return float(np.mean([self._metric(answers, rows.numpy()) for answers in self.answers]))

        return bootstrap(value, len(self.truth), self.seed)

    def save(self, path: Path, paths: list[str]) -> None:
        """Write all of it, with the images' paths [n], as .npz."""
        arrays = {"answers": self.answers, "truth": self.truth, "rows": self.rows, "paths": np.array(paths)}
        arrays |= {"fold": self.fold} if self.fold is not None else {}
        numbers = {"metric": self.metric, "share": self.share, "seed": self.seed}
        with replacing(path) as file, file.open("wb") as handle:
            np.savez_compressed(handle, **arrays, **{k: np.array(v) for k, v in numbers.items()})  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Answers":
        """Raises TapetumError when the file is not there or is none of these."""
        try:
            check_npz(path)
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ("answers", "truth", "rows")}
                arrays["fold"] = file.get("fold")
                metric = str(file["metric"])
                if metric not in METRICS:
                    raise ValueError(f"no metric {metric!r}")
                found = cls(metric, **arrays, share=float(file["share"]), seed=int(file["seed"]))
                found._check()
                return found
        except Exception as error:  # whatever the bytes of a stranger make a parser raise
            raise TapetumError(f"{path} holds no answers: {error}.") from error


def over_folds(values: np.ndarray, share: float) -> tuple[float, float, tuple[float, float], str]:
    """The mean of the values [J] of folds, its standard error, 95 % interval, and what the error goes over.

    Training sets overlap, so the error is that of Nadeau and Bengio (2003): the variance over the J folds
    times (1 / J + share), where `share` is test images over training images.
    """
    value = float(values.mean())
    error = float(values.std(ddof=1) * (1 / len(values) + share) ** 0.5)
    half = error * student(len(values) - 1)
    return value, error, (value - half, value + half), "corrected resampled t over folds"
