"""The verbs that make an encoder of use elsewhere: fit, predict and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tapetum.base.settings import Count, Share, Whole
from tapetum.base.verb import verb

Settings = dict[str, Any]


@verb
def fit(
    encoder: Any,
    data: Any,
    *,
    out: str,
    labels: Any = "auto",
    head: Literal["linear", "finetune"] = "linear",
    unlike: Share = 0.05,
    split: str | None = None,
    group_by: str | None = None,
    duplicates: bool = True,
    repeats: Count | None = None,
    seed: Whole = 0,
    image_size: Count | None = None,
    batch_size: Count = 256,
    precision: Literal["float32", "bfloat16"] = "float32",
    device: str | None = None,
    workers: Whole | None = None,
    finetune_settings: Settings | None = None,
) -> Settings:
    """Make a calibrated classifier of an encoder and labelled images.

    Args:
        encoder: a run, a file, timm:NAME (public weights), random:NAME, or NAME@FILE for a file of weights.
        data: labelled images in any form that pretrain takes.
        out: the classifier's folder; it is made, never overwritten.
        labels: auto, folders, or a file joined by relative path.
        head: linear learns on the encoder's features; finetune teaches a copy of the encoder, too.
        unlike: share of held-out training images that may be flagged as unlike anything in training.
        split: which part of the data to use. [train, where there are parts]
        group_by: a column of the list or the labels; no fold parts what is equal there.
        duplicates: look for images that are there twice, which no fold parts.
        repeats: of cross-validation. [5 up to 2,000 images, else 1]
        seed: of folds, and of fine-tuning.
        image_size: for timm:NAME, where it shall not be the model's own.
        batch_size: images at once.
        precision: what features are computed in.
        device: where features are computed. [a GPU where there is one]
        workers: threads that read images. [one a core]

    Accuracy, the temperature that calibrates probabilities, and the distance beyond which an image is unlike
    the training images, come from images that were held out: from folds in turn (linear), or a fifth of the
    images (finetune). Settings of fine-tuning are typed --finetune.epochs 10; `tapetum protocols finetune`
    lists them.
    """
    own = dict(locals())
    from tapetum.adapt.fit import fit as run

    made = run(**own)
    return {"out": out, "temperature": made.head.temperature, "threshold": made.threshold, **made.report}


@verb
def predict(
    classifier: Any,
    data: Any,
    *,
    out: str,
    labels: Any = "none",
    split: str | None = None,
    probabilities: bool = False,
    overwrite: bool = False,
    batch_size: Count = 256,
    device: str | None = None,
    workers: Whole | None = None,
) -> Settings:
    """Write the class of every image, its probability, and whether it is unlike anything in training.

    Args:
        classifier: a folder that fit wrote.
        data: images in any form that pretrain takes; labels are not needed.
        out: a .csv, .jsonl or .parquet file: a row for each image, sorted by path.
        labels: auto, folders, or a file joined by relative path; then the accuracy is said.
        split: which part of the data to use. [all]
        probabilities: write the probability of each class, too.
        overwrite: replace a file that exists.
        batch_size: images at once.
        device: where features are computed. [a GPU where there is one]
        workers: threads that read images. [one a core]

    Columns, in this order: path; class, the likeliest; probability, of that class, calibrated; unlike, true
    or false; reason, why the image cannot be read (the three before are then empty); with --labels, label;
    with --probabilities, p(CLASS) for each class.
    """
    own = dict(locals())
    from tapetum.adapt.predict import predict as run

    return run(**own)


@verb
def export(encoder: Any, *, out: str, format: Literal["timm", "onnx", "safetensors"] = "timm") -> Settings:
    """Write an encoder, or a classifier, in a form that other tools load, and check that it gives the same.

    Args:
        encoder: a run, a file, timm:NAME (public weights), random:NAME, or a classifier (onnx alone).
        out: a folder (timm, safetensors) or a file (onnx).
        format: what is written.
    """
    from tapetum.adapt import classifier
    from tapetum.adapt import export as of_classifiers
    from tapetum.encoders import load
    from tapetum.encoders.export import export as run

    if classifier.is_classifier(encoder):
        return of_classifiers.export(encoder, Path(out), format)
    return run(load(encoder), Path(out), format)
