"""The verbs about features and what they are worth: evaluate, protocols, embed and cache."""

from __future__ import annotations

from typing import Any, Literal

from tapetum.base.console import say
from tapetum.base.settings import Count, Whole
from tapetum.base.verb import verb

Settings = dict[str, Any]


@verb
def evaluate(
    encoder: Any,
    *,
    train_data: Any,
    test_data: Any = None,
    protocols: tuple[str, ...] = ("knn", "logistic"),
    labels: Any = "auto",
    label_kind: Literal["class", "classes", "number"] = "class",
    metric: str | None = None,
    group_by: str | None = None,
    repeats: Count | None = None,
    baselines: bool = True,
    duplicates: bool = True,
    seed: Whole = 0,
    out: str | None = None,
    image_size: Count | None = None,
    layer: Whole | None = None,
    pooling: Literal["encoder", "mean", "class"] = "encoder",
    batch_size: Count = 256,
    precision: Literal["float32", "bfloat16"] = "float32",
    device: str | None = None,
    workers: Whole | None = None,
    protocol_settings: Settings | None = None,
) -> list:
    """Measure an encoder, beside raw pixels, random weights and the weights it began from.

    Args:
        encoder: a run, a file, timm:NAME (public weights), random:NAME or NAME@FILE.
        train_data: labelled images that the protocols learn from.
        test_data: images that are judged. [the test part of train_data, or all in turn, by cross-validation]
        protocols: protocols (`tapetum protocols` lists all), suites (standard) or suite.yaml, by commas.
        labels: auto, folders, or a file joined by relative path.
        label_kind: what a label is: one class, several ("cat;dog"), or a number.
        metric: accuracy, balanced_accuracy, auroc; of numbers r2, mean_absolute_error, spearman. [the first]
        group_by: a column of the list or the labels; cross-validation never parts what is equal there.
        repeats: of cross-validation. [5 up to 2,000 images, else 1]
        baselines: measure pixels, random weights and starting weights too.
        duplicates: look for images that are in both parts, or twice in one.
        seed: of what is drawn.
        out: JSON file for the results. [results.json of the run]
        image_size: for timm:NAME, where it shall not be the model's own.
        layer: the block of a ViT whose features are measured. [the last]
        pooling: how patches become a vector: as the encoder does, their mean, or the class token.
        batch_size: images at once.
        precision: what features are computed in.
        device: where features are computed. [a GPU where there is one]
        workers: threads that read images. [one a core]

    Settings of a protocol are typed --knn.k 5; `tapetum protocols knn` lists them. In Python they are dicts,
    protocol_settings={"knn": {"k": 5}}.
    """
    own = dict(locals())
    from tapetum.evaluate.run import evaluate as run

    return run(**own)


@verb
def protocols(name: str | None = None) -> Any:
    """List the protocols and suites of `evaluate`, or show one with its settings.

    Args:
        name: a protocol's name.
    """
    from tapetum.describe import all_protocols, one_protocol

    return one_protocol(name) if name else all_protocols()


@verb
def cache(*, clear: bool = False, older: float | None = None, limit: str | None = None) -> list[Settings]:
    """List the features that are stored, or remove some.

    Args:
        clear: remove all (with --older only those).
        older: only what was not used for so many days.
        limit: remove what was not used for longest until so much is left, such as 10GB.

    They lie in $TAPETUM_CACHE (or ~/.cache/tapetum) and never take more than $TAPETUM_CACHE_LIMIT (50GB).
    """
    own = dict(locals())
    from tapetum.features.cache import tend

    return tend(**own)


@verb
def embed(
    encoder: Any,
    data: Any,
    *,
    out: str,
    engine: Literal["local", "ray"] = "local",
    labels: Any = "auto",
    split: str | None = None,
    overwrite: bool = False,
    image_size: Count | None = None,
    batch_size: Count = 256,
    precision: Literal["float32", "bfloat16"] = "float32",
    device: str | None = None,
    workers: Whole | None = None,
) -> Settings:
    """Compute the features of images and write them to a file.

    Args:
        encoder: a run, a file, timm:NAME (public weights), random:NAME or NAME@FILE.
        data: images in any form that pretrain takes.
        out: a .npz, .parquet or .safetensors file: features, labels, paths. With ray a folder of Parquet.
        engine: local, or ray: workers of a Ray cluster, which write parts; one that was stopped goes on.
        labels: auto, folders, none, or a file joined by relative path.
        split: which part of the data to use. [all]
        overwrite: replace a file that exists.
        image_size: for timm:NAME, where it shall not be the model's own.
        batch_size: images at once.
        precision: what features are computed in.
        device: where features are computed. [a GPU where there is one]
        workers: threads that read images. [one a core]
    """
    from tapetum.data import open_data
    from tapetum.evaluate.embed import embed as run

    own = dict(locals())
    how = {name: own[name] for name in ("image_size", "batch_size", "precision", "device", "workers")}
    if engine == "ray":
        from tapetum.evaluate.spread import embed as spread

        return spread(encoder, data, out, labels=labels, split=split, overwrite=overwrite, **how)
    found = run(encoder, open_data(data, labels, split), out, overwrite=overwrite, **how)
    say(f"wrote {out}: features of {len(found):,} images, {found.x.shape[1]} numbers each")
    return {"out": out, "images": len(found), "dim": found.x.shape[1]}
