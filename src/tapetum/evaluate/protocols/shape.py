"""Shape against texture: which one decides where they disagree (Geirhos et al. 2019, arXiv:1811.12231)."""

from pathlib import PurePosixPath
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from tapetum import views
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Positive
from tapetum.data.open import open_data
from tapetum.evaluate.altered import drawn
from tapetum.evaluate.answers import Answers
from tapetum.evaluate.case import Case
from tapetum.evaluate.mixed import first_of_twins, mixed, of_another_class
from tapetum.evaluate.result import Result
from tapetum.evaluate.robust import Head, Judge
from tapetum.features import View
from tapetum.views.corruptions import each, spatter
from tapetum.views.corruptions.sampling import gaussian
from tapetum.views.corruptions.weather import GRAY

VERSION = 1
SPLITS = "once"


def protocol(
    case: Case,
    *,
    data: str | None = None,
    head: Head = "logistic",
    images: Count = 500,
    grid: Annotated[int, 2, 32] = 4,
    sigma: Positive = 6.0,
) -> list[Result]:
    """A head learns from clean training images. The first number is the share of answers for the shape's
    class among those for the shape's or the texture's; the others are accuracies on images with the shape
    destroyed (patches shuffled) and with the texture destroyed (smoothed; edges alone).

    Without `data` an image whose shape and texture disagree has the phases of a test image's Fourier
    transform (shape) and the amplitudes of one of another class (texture).

    Args:
        data: images with names such as cat1-truck3.png: of a cat's shape and a truck's texture.
        head: what learns, logistic or knn.
        images: at most so many test images.
        grid: patches a side.
        sigma: of the smoothing, in pixels of a 224-pixel image.
    """
    judge = Judge(case, head, images)
    predicted, shape, texture, rows, facts, notes = _conflicts(judge) if data is None else _given(judge, data)
    by_shape, by_texture = predicted == shape, predicted == texture
    decided = by_shape | by_texture
    counts = {
        "shape": int(by_shape.sum()),
        "texture": int(by_texture.sum()),
        "neither": int((~decided).sum()),
    }
    if not decided.any():
        raise TapetumError(
            f"shape: none of {len(shape):,} images was taken for its shape's or texture's class."
        )
    kept = decided.numpy()
    chosen = Answers(
        "mean", by_shape.double().numpy()[kept][None], shape.numpy()[kept], rows[kept], seed=case.seed
    )
    value, error, interval, kind = chosen.summary()
    share = case.measured(
        "shape", VERSION, "mean", value, error, interval=interval, error_kind=kind, n=len(chosen.rows),
        label="shape share", head=judge.facts() | facts, notes=[*judge.notes, *notes], details=counts,
        answers=chosen if data is None else None,  # whose rows are test images
    )  # fmt: skip
    kinds = {
        f"{grid} x {grid} patches shuffled": drawn(views.View((views.PatchShuffle(grid),)), 0, case.seed),
        "smoothed": drawn(views.View((views.Blur(1, (sigma, sigma)),)), 0, case.seed),
        "edges": View({"edges": 1}, _edges),
    }
    clean = {"clean accuracy": float(1 - judge.wrong().mean())}
    return [share] + [
        case.result(
            "shape", VERSION, "accuracy", judge.predicted(view)[None], judge.truth, rows=judge.rows,
            head=judge.facts() | view.facts, label=f"accuracy, {label}", notes=judge.notes, details=clean,
        )
        for label, view in kinds.items()
    ]  # fmt: skip


# answers, classes of shape and texture, rows, facts, notes
Found = tuple[Tensor, Tensor, Tensor, np.ndarray, dict, list[str]]


def _conflicts(judge: Judge) -> Found:
    """Of test images mixed in pairs; rows are those of the shapes."""
    known = np.flatnonzero((judge.truth < len(judge.classes)).numpy())
    truth, source = judge.truth[known], judge.source.take(known)
    if len(truth.unique()) < 2:
        raise TapetumError("shape needs test images of at least 2 classes, to take texture from another.")
    encoder = judge.case.extractor.encoder
    partner = of_another_class(truth, judge.case.seed)[first_of_twins(source)]
    view = mixed(source, source, partner, encoder, {"amplitude of": "another class"}, conflict)
    x = np.array(judge.case.extractor.features(source, view=view).x, dtype=np.float32)
    predicted = judge.scores(torch.from_numpy(x)).argmax(1)
    differ = truth != truth[partner]  # all, but for images of one content under two labels
    facts = {"conflicts": "phase and amplitude"}
    rows = judge.rows[known][differ.numpy()]
    return predicted[differ], truth[differ], truth[partner][differ], rows, facts, []


def conflict(shape: Tensor, texture: Tensor) -> Tensor:
    """The phases of one batch [B, C, S, S] with the amplitudes of another."""
    phase = torch.fft.rfft2(shape)
    phase = phase / phase.abs().clamp(min=1e-12)
    return torch.fft.irfft2(phase * torch.fft.rfft2(texture).abs(), s=shape.shape[-2:])


def _given(judge: Judge, data: str) -> Found:
    """Of images whose names tell both classes; rows are theirs."""
    found = judge.case.extractor.features(open_data(data, "none"))
    told = [cues(path, judge.classes) for path in found.paths]
    rows = [i for i, cue in enumerate(told) if cue and cue[0] != cue[1] and i not in found.damaged]
    if not rows:
        raise TapetumError(
            f"{data} has no image of a name such as {judge.classes[0]}1-{judge.classes[1]}3.png, with two "
            f"different classes of the training data."
        )
    notes = []
    if len(rows) < len(told):
        notes.append(
            f"{len(told) - len(rows):,} of {len(told):,} images in {data} are left out: damaged, of one "
            f"class, or of classes that training has not"
        )
    predicted = judge.scores(torch.from_numpy(np.array(found.x[rows], dtype=np.float32))).argmax(1)
    pairs = torch.tensor([told[i] for i in rows])
    return predicted, pairs[:, 0], pairs[:, 1], np.array(rows), {"conflicts": found.data}, notes


def cues(path: str, classes: list[str]) -> tuple[int, int] | None:
    """The classes of shape and texture in a name such as cat1-truck3.png; None where it tells no two."""
    stem, known = PurePosixPath(path).stem.lower(), {name.lower(): i for i, name in enumerate(classes)}
    for cut, letter in enumerate(stem):
        if letter == "-":
            pair = [part.rstrip("0123456789") for part in (stem[:cut], stem[cut + 1 :])]
            if pair[0] in known and pair[1] in known:
                return known[pair[0]], known[pair[1]]
    return None


def _edges(pixels: Tensor, keys: Tensor) -> Tensor:
    """Black lines on white."""

    def drawn(x: np.ndarray, key: int) -> np.ndarray:
        smooth = gaussian(x @ GRAY, x.shape[0] / 224)
        lines = spatter.edges(smooth.round().astype(np.uint8))
        return np.where(lines, 0, 255)[..., None].repeat(3, 2).astype(np.uint8)

    return torch.from_numpy(each(pixels.cpu().numpy(), keys.cpu().numpy(), drawn)).to(pixels.device)
