"""Is it learning? A look at the features of a few images while training: kNN, or effective rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tapetum.base import random
from tapetum.base.errors import TapetumError, TrainingFailed
from tapetum.data.decode import Damaged
from tapetum.data.source import Source
from tapetum.encoders.encoder import Encoder
from tapetum.measure.knn import knn_accuracy, knn_scores
from tapetum.measure.spectrum import effective_rank
from tapetum.train.loop import evaluating

if TYPE_CHECKING:
    from tapetum.train.setup import Job


class NotFinite(TrainingFailed):
    """The encoder gives features that are no numbers."""


@dataclass
class Sample:
    """A fixed sample of images, ready for the encoder."""

    pixels: Tensor  # [N, 3, S, S] uint8
    labels: Tensor  # [N] int64, -1 = unknown
    index: Tensor  # [N] int64, where they stand in the source


def samples(job: Job, test: Source | None) -> tuple[Sample, Sample | None]:
    """The images of a run that are looked at while it trains, and those held out."""
    encoder, seed, held_out = job.method.product(), job.config["seed"], None
    if test is not None:
        held_out = sample(test, encoder, 1000, seed)
        held_out.labels = renumbered(held_out.labels, test.classes, job.source.classes)
    return sample(job.source, encoder, 4000 if held_out else 2000, seed), held_out


def sample(source: Source, encoder: Encoder, most: int, seed: int) -> Sample:
    """Up to `most` readable images of a source, the same for the same seed."""
    source = source.formed(encoder.spec.form)
    pixels: list[Tensor] = []
    labels: list[int] = []
    index: list[int] = []
    for i in random.order(seed, -2, len(source)).tolist():
        if len(pixels) == most:
            break
        try:
            pixels.append(torch.as_tensor(encoder.prepare(source.read(i))))
            labels.append(-1 if source.labels is None else int(source.labels[i]))
            index.append(i)
        except Damaged:
            continue
    if not pixels:
        raise TapetumError(f"no image of {source.name} can be read.")
    return Sample(torch.stack(pixels), torch.tensor(np.array(labels)), torch.tensor(index))


@torch.no_grad()
def embed(encoder: Encoder, pixels: Tensor, batch: int = 256) -> Tensor:
    """Features [N, D] float32 of uint8 images in eval mode, leaving the encoder as it was."""
    device = next(encoder.parameters()).device
    with evaluating(encoder):
        parts = [encoder(part.to(device).float() / 255).float().cpu() for part in pixels.split(batch)]
    return torch.cat(parts)


def look(encoder: Encoder, bank: Sample, held_out: Sample | None) -> dict[str, float]:
    """`knn`: how often the neighbours in the bank name the right class (of held-out images where there are
    some, else of the bank's own, each without itself); `rank`: the effective rank of the bank's features."""
    x = embed(encoder, bank.pixels)
    if not x.isfinite().all():
        raise NotFinite("the encoder gives features that are not finite")
    numbers = {"rank": float(effective_rank(x))}
    known = bank.labels >= 0
    if len(bank.labels[known].unique()) < 2:
        return numbers
    if held_out is not None and (held_out.labels >= 0).any():
        test = (embed(encoder, held_out.pixels), held_out.labels)
        return numbers | {"knn": knn_accuracy((x, bank.labels), test)}
    votes = knn_scores(x[known], bank.labels[known], x[known], leave_one_out=True)
    return numbers | {"knn": float((votes.argmax(1) == bank.labels[known]).float().mean())}


def renumbered(labels: Tensor, classes: list[str] | None, wanted: list[str] | None) -> Tensor:
    """Labels of one source in the numbering of another; classes unknown there become -1."""
    if not classes or not wanted:
        return torch.full_like(labels, -1)
    to = torch.tensor([wanted.index(c) if c in wanted else -1 for c in classes] + [-1])
    return to[labels]
