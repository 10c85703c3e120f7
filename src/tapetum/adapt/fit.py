"""Fits a classifier to labelled images, and says how far its answers can be believed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tapetum.adapt.classifier import Classifier, Head, savable
from tapetum.adapt.held import Held, chosen, cross_fitted, headed, held_out, learnt, near
from tapetum.adapt.report import Known, described, show
from tapetum.base import settings
from tapetum.base.console import Progress, say
from tapetum.base.errors import TapetumError, unknown
from tapetum.data.open import open_data
from tapetum.encoders import Encoder, load
from tapetum.evaluate import crossval
from tapetum.evaluate.finetuning import Recipe, finetune
from tapetum.evaluate.parts import Parts, prepare
from tapetum.evaluate.protocols.logistic import scale
from tapetum.features import Extractor, Features, Precision

Kind = Literal["linear", "finetune"]
SHOWN = 10  # classes that a sentence names


def fit(
    encoder: str | Path | Encoder,
    data: Any,
    out: str | Path | None = None,
    *,
    labels: Any = "auto",
    head: Kind = "linear",
    unlike: float = 0.05,
    split: str | None = None,
    group_by: str | None = None,
    duplicates: bool = True,
    repeats: int | None = None,
    seed: int = 0,
    image_size: int | None = None,
    batch_size: int = 256,
    precision: Precision = "float32",
    device: str | None = None,
    workers: int | None = None,
    finetune_settings: Mapping[str, Any] | None = None,
) -> Classifier:
    """A calibrated classifier, saved in the folder `out` if one is given; its `report` says how good it is.

    With the head "linear" a logistic regression learns from all images; accuracy, temperature and the
    threshold of what is unlike them come from folds that it had not learnt from. With "finetune" a copy of
    the encoder learns together with its head from all but a fifth, which these come from.

    Args:
        encoder: as `encoders.load` takes it.
        data, labels, split: images of one class each; see `open_data`. By default the training part.
        head: what learns.
        unlike: the share of held-out training images that may count as unlike the training images.
        group_by, duplicates, repeats: what no fold parts, and how often folds are made; see `evaluate`.
        seed: of folds, and of fine-tuning.
        image_size, batch_size, precision, device, workers: how features are computed.
        finetune_settings: fields of evaluate.finetuning.Recipe.

    Raises TapetumError where there is nothing to learn from or `out` exists.
    """
    if head not in ("linear", "finetune"):
        raise unknown("head", head, ("linear", "finetune"))
    if finetune_settings and head != "finetune":
        raise TapetumError("settings of finetune are for --head finetune.")
    recipe = Recipe(**settings.check("setting of finetune", finetune_settings or {}, Recipe, "finetune."))
    main = load(encoder, image_size)
    if out is not None:
        savable(main, Path(out))
    how: dict[str, Any] = {"batch_size": batch_size, "device": device, "workers": workers}
    parts = _opened(data, labels, split, seed, group_by, duplicates, repeats, how)
    extractor = Extractor(main, precision=precision, **how)
    known = _known(extractor.features(parts.train))
    plan, notes = _plan(known, parts, once=head == "finetune")
    held: Held | None
    if head == "linear":
        ready, held = _linear(known, plan, seed)
    else:
        main, ready, held = _finetuned(extractor, known, plan, seed, recipe)
    threshold = None
    if held is not None and len(held.y):
        ready.temperature, threshold = held.temperature(), held.threshold(unlike)
    report = described(known, parts, plan, held, unlike, head, main.name, [*notes, *parts.notes])
    made = Classifier(main, ready, known.classes, threshold, precision, report)
    show(made, known)
    if out is not None:
        made.save(out)
        say(f"wrote {out}; use it with: tapetum predict {out} DATA --out predictions.csv")
    return made


def _opened(
    data: Any,
    labels: Any,
    split: str | None,
    seed: int,
    group_by: str | None,
    duplicates: bool,
    repeats: int | None,
    how: dict[str, Any],
) -> Parts:
    """The images to learn from, and which of them no fold may part."""
    source = open_data(data, labels, split)
    if split is None and "train" in source.splits:
        source = source.part("train")
    return prepare(
        source, None, labels="auto", kind="class", metric=None, seed=seed, group_by=group_by, how=how,
        duplicates=duplicates, repeats=repeats, train_images=None, needs_labels=True,
    )  # fmt: skip


def _known(stored: Features) -> Known:
    """Raises TapetumError with fewer than two classes."""
    assert stored.labels is not None and stored.classes is not None
    rows = np.flatnonzero((stored.labels >= 0) & stored.there)
    there, y = np.unique(stored.labels[rows], return_inverse=True)
    classes = [stored.classes[label] for label in there]
    if len(classes) < 2:
        raise TapetumError(
            f"a classifier needs images of at least 2 classes that can be read; {stored.source.name} has "
            f"{classes}."
        )
    left_out = {stored.paths[row]: reason for row, reason in stored.damaged.items()}
    unlabelled = np.flatnonzero((stored.labels < 0) & stored.there)
    left_out |= {stored.paths[row]: "no label" for row in unlabelled}
    x = torch.from_numpy(np.array(stored.x[rows], dtype=np.float32))
    return Known(stored, rows, x, torch.from_numpy(y), classes, left_out)


def _plan(known: Known, parts: Parts, once: bool) -> tuple[crossval.Plan | None, list[str]]:
    """Folds of the images, where any can be held out, and what cannot be done."""
    count = torch.bincount(known.y)
    notes = []
    if single := [known.classes[c] for c in (count == 1).nonzero().flatten().tolist()]:
        notes.append(
            f"classes of one image cannot be held out, so how well they are recognised is not known: "
            f"{', '.join(single[:SHOWN])}{', ...' * (len(single) > SHOWN)}"
        )
    try:
        made = crossval.plan(
            known.stored, "class", parts.seed, parts.groups, parts.named, 1 if once else parts.repeats
        )
    except TapetumError as error:
        why = str(error).partition("; give test data")[0].rstrip(".")
        return None, [
            f"{why}: accuracy and calibration are not known, probabilities are as learnt, and no image is "
            "flagged as unlike the training images"
        ]
    return made, notes


def _linear(known: Known, plan: crossval.Plan | None, seed: int) -> tuple[Head, Held | None]:
    width, held = len(known.classes), None
    penalty = chosen(known.x, known.y, width, seed)
    if plan is not None:
        with Progress(1 if plan.once else plan.count * len(plan.fold), "cross-validation", "folds") as bar:
            held = cross_fitted(
                known.x, known.y, width, plan.fold[:, known.rows], plan.count, plan.once, seed, penalty,
                advance=bar.advance,
            )  # fmt: skip
    return learnt(known.x, known.y, width, near(known.y), seed, penalty), held


def _finetuned(
    extractor: Extractor, known: Known, plan: crossval.Plan | None, seed: int, recipe: Recipe
) -> tuple[Encoder, Head, Held | None]:
    """The tuned encoder with its head, and what they say of one fold that they have not learnt from."""
    width = len(known.classes)
    fold = np.full(len(known.rows), -1) if plan is None else plan.fold[0, known.rows]
    seen = torch.from_numpy(fold != 0)
    source = known.stored.source
    learner = source.take(known.rows[seen.numpy()])
    tuned, linear = finetune(
        extractor, learner, "class", known.y[seen], known.x[seen], recipe, width=width, seed=seed
    )
    features = tuned.features(source.take(known.rows))
    main = tuned.encoder.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    x = torch.from_numpy(np.array(features.x, dtype=np.float32))
    mean, std = scale(x[seen].double())
    weight, bias = linear.weight.detach().cpu().double(), linear.bias.detach().cpu().double()
    head = headed(x[seen], weight * std, bias + weight @ mean, mean, std, near(known.y[seen]), seed)
    if plan is None:
        return main, head, None
    return main, head, held_out(head, x, known.y, fold, plan.count, seed)
