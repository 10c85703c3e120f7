"""What framing does: accuracy at each zoom and place, of the best one, and averaged (arXiv:2304.05538)."""

import math
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor, nn

from tapetum.base.errors import TapetumError
from tapetum.base.files import short_id
from tapetum.base.settings import Count
from tapetum.encoders import Encoder
from tapetum.evaluate.case import Case
from tapetum.evaluate.result import Result
from tapetum.evaluate.robust import Head, Judge
from tapetum.features import Extractor

VERSION = 1
SPLITS = "once"


def protocol(
    case: Case,
    *,
    zooms: tuple[Annotated[float, 0.1, 10], ...] = (0.75, 1.0, 1.5, 2.0, 3.0),
    grid: Annotated[int, 1, 9] = 3,
    head: Head = "logistic",
    images: Count = 500,
) -> list[Result]:
    """A head learns from training images as the encoder prepares them; test images are prepared larger (or
    smaller, on black) and seen through a window of the encoder's size. Three accuracies:

    the best framing of each image, which is an upper bound that looks at the label;
    the mean of the probabilities over all framings;
    the framing of each image whose probabilities have the lowest entropy.

    The accuracy at each zoom and place, a map of the position's bias, is in the details. No window reaches
    beyond the part of an image that the encoder takes.

    Args:
        zooms: how much larger images are prepared; at 1 and below there is one window.
        grid: windows a side at each zoom above 1, from edge to edge.
        head: what learns, logistic or knn.
        images: at most so many test images.
    """
    judge = Judge(case, head, images)
    found: dict[str, Tensor] = {}  # [windows, m, C] probabilities
    for zoom in dict.fromkeys(zooms):
        scores = judge.scores(_seen(judge, zoom, grid).flatten(0, 1)).unflatten(0, (-1, len(judge.truth)))
        found[f"{zoom:g}"] = scores if head == "knn" else scores.softmax(2)
    every = torch.cat(list(found.values()))  # [F, m, C]
    right = every.argmax(2) == judge.truth  # [F, m]
    if len(every) < 2:
        raise TapetumError("zoom compares framings, and these settings have only one.")
    entropy = -(every * every.clamp(min=1e-12).log()).sum(2)
    surest = every[entropy.argmin(0), torch.arange(every.shape[1])]  # [m, C]
    details = {
        "clean accuracy": float(1 - judge.wrong().mean()),
        "accuracy at each place": {name: _map(p, judge.truth) for name, p in found.items()},
    }
    facts = judge.facts() | {"zooms": list(zooms), "grid": grid}
    numbers = {
        "accuracy, best framing": ("mean", right.any(0).double(), torch.zeros(len(judge.truth))),
        "accuracy, mean over framings": ("accuracy", every.mean(0).argmax(1), judge.truth),
        "accuracy, surest framing": ("accuracy", surest.argmax(1), judge.truth),
    }
    return [
        case.result(
            "zoom", VERSION, metric, answers[None], truth, rows=judge.rows, head=facts, label=label,
            notes=judge.notes, details=details,
        )
        for label, (metric, answers, truth) in numbers.items()
    ]  # fmt: skip


class Windows(nn.Module):
    """Pixels [B, C, S, S] in [0, 1] -> what the encoder makes of windows of its size: [B, windows * D]."""

    def __init__(self, given: Extractor, grid: int, side: int):
        super().__init__()
        self.encoder, self.given = given.encoder, given.given
        size = given.encoder.image_size
        steps = [0.5] if side <= size or grid == 1 else [i / (grid - 1) for i in range(grid)]
        self.corners = [(round(y * (side - size)), round(x * (side - size))) for y in steps for x in steps]

    def forward(self, x: Tensor) -> Tensor:
        size = self.encoder.image_size
        return torch.cat([self.given(window(x, *corner, size)) for corner in self.corners], 1)


def window(x: Tensor, top: int, left: int, size: int) -> Tensor:
    """A square of x [B, C, S, S]; what lies outside is black."""
    rest = size - x.shape[-1]
    return nn.functional.pad(x, (-left, rest + left, -top, rest + top))


def _seen(judge: Judge, zoom: float, grid: int) -> Tensor:
    """Features [windows, m, D] of the test images at a zoom."""
    given = judge.case.extractor
    encoder = given.encoder
    side = max(1, round(zoom * encoder.image_size))
    if side == encoder.image_size:
        return judge.clean[None]
    zero, one = (tuple(v for _ in encoder.spec.mean) for v in (0.0, 1.0))
    inside = short_id({"subject": given.subject, "grid": grid})
    name = f"{encoder.name}, {grid} x {grid} windows, {inside}"
    spec = replace(encoder.spec, name=name, model="", args={}, image_size=side, mean=zero, std=one)
    framed = Encoder(Windows(given, grid, side), spec)
    portion = max(1, given.batch_size // math.ceil(zoom**2))
    x = judge.features(extractor=given.of(framed, batch_size=portion, layer=None, pooling="encoder"))
    return x.unflatten(1, (-1, encoder.dim)).movedim(1, 0)


def _map(probabilities: Tensor, truth: Tensor) -> list[list[float]]:
    """Accuracies of windows, row by row."""
    each = (probabilities.argmax(2) == truth).double().mean(1)
    return each.view(math.isqrt(len(each)), -1).tolist()
