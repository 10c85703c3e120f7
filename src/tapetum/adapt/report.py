"""What a classifier is and how far its answers can be believed: as data, and in words."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tapetum.adapt.classifier import Classifier
from tapetum.adapt.held import BANK, Held
from tapetum.base.console import say, table
from tapetum.evaluate import crossval
from tapetum.evaluate.parts import Parts
from tapetum.features import Features

SHOWN = 10  # images left out that are named
MOST_CLASSES = 40  # in the printed table


@dataclass(frozen=True)
class Known:
    """Images that can be learnt from, and those that cannot.

    stored: features of all images.
    rows: [n], those with a label that can be read.
    x, y: their features [n, D] float32 and classes [n].
    classes: names.
    left_out: {path: reason}.
    """

    stored: Features
    rows: np.ndarray
    x: Tensor
    y: Tensor
    classes: list[str]
    left_out: dict[str, str]


def described(
    known: Known,
    parts: Parts,
    plan: crossval.Plan | None,
    held: Held | None,
    unlike: float,
    head: str,
    encoder: str,
    notes: list[str],
) -> dict[str, Any]:
    """What there is to know of a classifier, as JSON has it."""
    images = torch.bincount(known.y, minlength=len(known.classes)).tolist()
    found: dict[str, Any] = {
        "head": head,
        "encoder": encoder,
        "data": known.stored.data,
        "source": known.stored.source.name,
        "images": dict(zip(known.classes, images)),
        "recognised": {},
        "left out": known.left_out,
        "unlike": unlike,
        "seed": parts.seed,
    }
    if held is not None and plan is not None and len(held.y):
        found |= {"split": plan.split(head == "finetune"), **held.report(unlike)}
        right = held.right.double().mean(0)
        there = held.y.unique().tolist()
        found["recognised"] = {known.classes[c]: float(right[held.y == c].mean()) for c in there}
        if len(held.y) * unlike < 1:
            notes.append(
                f"{len(held.y)} held-out images are few to tell what distance {unlike:.1%} of them exceed: "
                "the threshold is near the largest that was seen"
            )
    if len(known.rows) > BANK:
        notes.append(f"the features of {BANK:,} training images, drawn at random, say what is unlike them")
    return _finite(found | {"notes": notes})


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th: of 1 to 10."""
    return f"{n}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(n, 'th') }"


def show(made: Classifier, known: Known) -> None:
    """Print what was learnt from what, and how good it is."""
    report, recognised = made.report, made.report["recognised"]
    rows = [
        (name, f"{count:,}", f"{recognised[name]:.0%}" if name in recognised else "not known")
        for name, count in report["images"].items()
    ]
    say(f"{report['head']} head on {report['encoder']}: {len(rows)} classes, {len(known.rows):,} images")
    table(rows[:MOST_CLASSES], ("class", "training images", "recognised when held out"))
    if len(rows) > MOST_CLASSES:
        say(f"... and {len(rows) - MOST_CLASSES:,} classes more")
    if "accuracy" in report:
        low, high = (math.nan if end is None else end for end in report["interval"])
        say(
            f"accuracy {report['accuracy']:.3f} on {report['held_out']:,} held-out images, 95 % interval "
            f"{low:.3f} to {high:.3f} ({report['split']}; {report['error_kind']})"
        )
        say(f"the temperature is {made.head.temperature:.3g}; on images held out it brings")
        for name in ("expected calibration error", "negative log-likelihood"):
            say(f"  the {name} from {report[f'{name} before']:.3f} to {report[f'{name} after']:.3f}")
        say(
            f"unlike anything in training is what lies more than {made.threshold:.3g} (1 - cosine) from its "
            f"{ordinal(made.head.k)} nearest training image: {report['flagged']:.1%} of the images held out"
        )
    if left_out := report["left out"]:
        say(f"{len(left_out):,} images were left out:")
        for path, reason in list(left_out.items())[:SHOWN]:
            say(f"  {path}: {reason}")
        if len(left_out) > SHOWN:
            say(f"  ... and {len(left_out) - SHOWN:,} more")
    for note in report["notes"]:
        say(note)
