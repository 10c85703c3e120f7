"""Stability under small changes: how often answers flip along a sequence (ImageNet-P, arXiv:1903.12261)."""

from typing import Literal

import torch
from torch import Tensor

from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count
from tapetum.evaluate.case import Case
from tapetum.evaluate.result import Result
from tapetum.evaluate.robust import Head, Judge, reference, shares
from tapetum.features import View
from tapetum.views import perturbations
from tapetum.views.corruptions import Strengths, meant
from tapetum.views.perturbations import COMMON, EXTRA

VERSION = 1
SPLITS = "once"
GROUPS = {"common": COMMON, "extra": EXTRA, "all": COMMON + EXTRA}
TOP = 5


def protocol(
    case: Case,
    *,
    which: tuple[str, ...] = ("common",),
    frames: Count = 41,
    strengths: Strengths = "auto",
    head: Head = "logistic",
    relative_to: Literal["none", "pixels", "random weights"] = "none",
    images: Count = 100,
) -> list[Result]:
    """A head learns from clean training images. Two numbers, means over sequences: the share of steps at
    which the predicted class changes, and by how many places the first five classes move at a step. A step
    goes from one frame to the next; of noise from the clean image to each frame.

    Args:
        which: names of sequences, or common (10), extra (4), all.
        frames: at most so many of each sequence, from the middle of it.
        strengths: those of imagenet, of cifar, or (auto) cifar's up to 32 pixels.
        head: what learns, logistic or knn.
        relative_to: each sequence's number is divided by that of pixels or of random weights.
        images: at most so many test images.
    """
    names = list(dict.fromkeys(name for word in which for name in GROUPS.get(word, (word,))))
    sequences = [perturbations.sequence(name) for name in names]
    if frames < 2:
        raise TapetumError("a step goes from one frame to another, so it takes at least 2 frames.")
    judge = Judge(case, head, images)
    side = case.extractor.encoder.image_size
    numbers = {
        name: _middle(s.of(meant(strengths, (side, side)))[0], frames, s.noisy)
        for name, s in zip(names, sequences)
    }

    def measured(judge: Judge) -> Tensor:
        """[2, sequences, m]"""
        found = []
        for name, s in zip(names, sequences):
            queries = [judge.features(perturbed(name, i, side, strengths)) for i in numbers[name]]
            scores = judge.scores(torch.cat(queries)).unflatten(0, (len(queries), -1))  # [T, m, C]
            found.append(torch.stack([flips(scores.argmax(2), s.noisy), moved(scores, s.noisy)]))
        return torch.stack(found, 1)

    each, other = measured(judge), reference(judge, relative_to)
    base = torch.ones(each.shape[:2]).double() if other is None else measured(other).mean(2)
    facts = {
        **judge.facts(),
        "sequences": {
            name: {**perturbations.facts(name, 0, side, strengths), "frame": numbers[name]} for name in names
        },
        "relative to": relative_to,
    }
    results = []
    for label, values, divisor in zip(("flip rate", f"top-{TOP} distance"), each, base):
        notes = list(judge.notes)
        found = shares(values, divisor, names, notes, label, relative_to)
        if found is None:
            raise TapetumError(f"{relative_to} never changes its mind, so nothing can be divided by it.")
        details = {
            "each": {name: float(v) for name, v in zip(names, values.mean(1))},
            "reference": {name: float(v) for name, v in zip(names, divisor)},
        }
        result = case.result(
            "perturbations", VERSION, "mean", found[None], judge.truth, rows=judge.rows, head=facts,
            label=label, notes=notes, details=details,
        )  # fmt: skip
        results.append(result)
    return results


def perturbed(name: str, frame: int, side: int, strengths: Strengths = "auto") -> View:
    """A frame of prepared images as the store knows it."""

    def apply(pixels: Tensor, keys: Tensor) -> Tensor:
        out = perturbations.frame_batch(pixels.cpu().numpy(), keys.cpu().numpy(), name, frame, strengths)
        return torch.from_numpy(out).to(pixels.device)

    return View(perturbations.facts(name, frame, side, strengths), apply)


def _middle(count: int, frames: int, noisy: bool) -> list[int]:
    """Frames in the middle of a sequence of `count`; of noise the first, of which the very first is clean."""
    first = 0 if noisy or frames >= count else (count - frames) // 2
    return list(range(first, min(count, first + frames)))


def flips(predicted: Tensor, noisy: bool) -> Tensor:
    """The share of steps at which the class [T, m] changes: [m]."""
    before = predicted[:1] if noisy else predicted[:-1]
    return (predicted[1:] != before).double().mean(0)


def moved(scores: Tensor, noisy: bool, top: int = TOP) -> Tensor:
    """The mean over steps of how far the first `top` classes by scores [T, m, C] move, [m]; a class that
    leaves them counts as if it came right after them."""
    rank = scores.argsort(dim=2, descending=True, stable=True).argsort(dim=2)  # [T, m, C], 0 for the first
    before = rank[:1].expand(len(rank) - 1, -1, -1) if noisy else rank[:-1]
    way = (rank[1:].clamp(max=top) - before.clamp(max=top)).abs()
    return torch.where(before < top, way, 0).double().sum(2).mean(0)
