"""Robustness to common corruptions: mean corruption error (Hendrycks and Dietterich, arXiv:1903.12261)."""

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from tapetum.base.errors import TapetumError, unknown
from tapetum.base.settings import Count
from tapetum.evaluate.case import Case
from tapetum.evaluate.result import Result
from tapetum.evaluate.robust import Head, Judge, reference, shares
from tapetum.features import View
from tapetum.views import corruptions
from tapetum.views.corruptions import COMMON, EXTRA, Strengths

VERSION = 1
SPLITS = "once"
GROUPS = {"common": COMMON, "extra": EXTRA, "all": COMMON + EXTRA}
# AlexNet's errors on ImageNet-C, a mean over the strengths for each of the 15, and its clean error.
ALEXNET = dict(
    zip(
        COMMON,
        (
            *(0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816),
            *(0.826572, 0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500),
        ),
    )
)
ALEXNET_CLEAN = 0.434794


def protocol(
    case: Case,
    *,
    which: tuple[str, ...] = ("common",),
    severities: tuple[Annotated[int, 1, 5], ...] = (1, 2, 3, 4, 5),
    strengths: Strengths = "auto",
    head: Head = "logistic",
    relative_to: Literal["none", "alexnet", "pixels", "random weights"] = "none",
    images: Count = 500,
    frost: str | None = None,
) -> list[Result]:
    """A head learns from clean training images; test images are corrupted after they were resized. Two
    numbers: the mean corruption error, and how much of it is not there on clean images (the relative one).

    Args:
        which: names of corruptions, or common (15), extra (4), all.
        severities: which of the five strengths.
        strengths: those of imagenet, of cifar, or (auto) cifar's up to 32 pixels.
        head: what learns, logistic or knn.
        relative_to: each corruption's error is divided by that of AlexNet as published (for ImageNet), of
            pixels or random weights on the same images, or by nothing.
        images: at most so many test images.
        frost: a folder with the photographs of frost of ImageNet-C; by default frost is made, and this one
            corruption is not comparable with published numbers.
    """
    names, severities = _names(which), tuple(sorted(set(severities)))
    if relative_to == "alexnet" and (not set(names) <= set(COMMON) or severities != (1, 2, 3, 4, 5)):
        raise TapetumError(
            "AlexNet's errors are known of the 15 common corruptions at all five severities alone."
        )
    photos = corruptions.frost_photos(frost)
    judge = Judge(case, head, images)
    side = case.extractor.encoder.image_size
    views = {
        name: [corrupted(name, severity, side, strengths, photos) for severity in severities]
        for name in names
    }
    wrong, clean = _errors(judge, views)
    if relative_to == "alexnet":
        base, base_clean = torch.tensor([ALEXNET[name] for name in names], dtype=torch.float64), ALEXNET_CLEAN
    elif relative_to == "none":
        base, base_clean = torch.ones(len(names)).double(), 0.0
    else:
        other = reference(judge, relative_to)
        assert other is not None
        found, there = _errors(other, views)
        base, base_clean = found.mean((1, 2)), float(there.mean())
    facts = {
        **judge.facts(),
        "corruptions": {name: views[name][0].facts | {"severity": list(severities)} for name in names},
        "relative to": relative_to,
    }
    details = {
        "error": {name: each.tolist() for name, each in zip(names, wrong.mean(2))},
        "severities": list(severities),
        "clean error": float(clean.mean()),
        "reference": {name: float(e) for name, e in zip(names, base)} | {"clean": base_clean},
    }
    if "frost" in names and not photos:
        judge.notes.append("frost is made, not photographed: its error is not comparable with published ones")
    results = []
    for label, values, divisor in (
        ("mean corruption error", wrong.mean(1), base),
        ("relative corruption error", wrong.mean(1) - clean, base - base_clean),
    ):
        notes = list(judge.notes)
        each = shares(values, divisor, names, notes, label, relative_to)
        if each is not None:
            result = case.result(
                "corruptions", VERSION, "mean", each[None], judge.truth, rows=judge.rows, head=facts,
                label=label, notes=notes, details=details,
            )  # fmt: skip
            results.append(result)
    if not results:
        raise TapetumError(
            f"{relative_to} makes no errors on any corruption, so nothing can be divided by them."
        )
    return results


def corrupted(
    name: str, severity: int, side: int, strengths: Strengths = "auto", frost: tuple[Path, ...] = ()
) -> View:
    """A corruption of prepared images as the store knows it."""

    def apply(pixels: Tensor, keys: Tensor) -> Tensor:
        given: tuple[Any, ...] = (name, severity, strengths, frost)
        out = corruptions.corrupt_batch(pixels.cpu().numpy(), keys.cpu().numpy(), *given)
        return torch.from_numpy(out).to(pixels.device)

    return View(corruptions.facts(name, severity, side, strengths, frost), apply)


def _names(which: tuple[str, ...]) -> list[str]:
    """Names of corruptions, groups spelt out, each once."""
    names = [name for word in which for name in GROUPS.get(word, (word,))]
    for name in names:
        if name not in GROUPS["all"]:
            raise unknown("corruption", name, [*GROUPS, *GROUPS["all"]])
    return list(dict.fromkeys(names))


def _errors(judge: Judge, views: dict[str, list[View]]) -> tuple[Tensor, Tensor]:
    """Which images are wrong through each view [corruptions, severities, m], and which without one [m]."""
    wrong = torch.stack([torch.stack([judge.wrong(view) for view in row]) for row in views.values()])
    return wrong, judge.wrong()
