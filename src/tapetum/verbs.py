"""What tapetum does, one function a verb: the command line and Python share them. torch is imported inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tapetum.encoders import Encoder

Settings = dict[str, Any]


def pretrain(
    data: Any = None,
    *,
    out: str | None = None,
    method: str | None = None,
    encoder: str | None = None,
    weights: str | None = None,
    image_size: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    budget: str | None = None,
    batch_size: int | None = None,
    micro_batch: int | str | None = None,
    labels: str | None = None,
    split: str | None = None,
    test_data: str | None = None,
    eval_every: int | None = None,
    seed: int | None = None,
    precision: str | None = None,
    devices: str | None = None,
    workers: int | None = None,
    resume: str | None = None,
    plan: bool = False,
    log_every: int | None = None,
    checkpoint_steps: int | None = None,
    keep_checkpoints: int | None = None,
    logger: list[str] | None = None,
    method_settings: Settings | None = None,
    encoder_settings: Settings | None = None,
    optimizer_settings: Settings | None = None,
    views_settings: Settings | None = None,
) -> Settings:
    """Train an encoder on images, labels optional.

    Args:
        data: a folder, a path inside a zip or tar, a list (CSV, TSV, Parquet), shards, arrays.
        out: the run's folder; it is made, never overwritten.
        method: how to learn, by default simclr; `tapetum methods` lists all. `./mine.py` is a method of your own.
        encoder: a timm model or a preset; chosen from the image size and the machine.
        weights: none (the default), public (timm's), an earlier run, or a file.
        image_size: side of the views in pixels; chosen from the images and the machine.
        epochs: passes over the data; chosen so that there are about 3,000 steps.
        steps: optimiser steps, instead of epochs.
        budget: time to fill, such as 8h or 90m, instead of epochs.
        batch_size: images per optimiser step, over all processes.
        micro_batch: images at once on a process; auto finds what fits in memory.
        labels: auto (the default), folders, none, or a file joined by relative path.
        split: which part of the data to use; train where there are parts.
        test_data: held-out images for the look at the features while training.
        eval_every: epochs between two looks.
        seed: of weights, order and views; by default 0.
        precision: bf16, fp16 or fp32; what the hardware is fast in.
        devices: auto (the default: all GPUs), cpu, or a number of processes.
        workers: processes that read images.
        resume: a run to go on with; auto starts or goes on with --out.
        plan: print every setting with its reason, and the measured cost, and stop.
        log_every: steps between two lines of metrics.jsonl, by default 10.
        checkpoint_steps: steps between two checkpoints; by default each epoch, a minute apart at least.
        keep_checkpoints: how many checkpoints are kept, by default 2.
        logger: tensorboard, wandb, mlflow; from Python also a function of (step, numbers).

    Settings of a group are typed --method.temperature 0.2, --encoder.depth 6, --optimizer.lr 1e-3,
    --views.crop.scale 0.2,1; in Python they are dicts. Returns the last numbers.
    """
    from tapetum.train.run import pretrain as run

    own = dict(locals())
    groups = {name: own.pop(f"{name}_settings") or {} for name in ("method", "encoder", "optimizer", "views")}
    for name in ("run", "data", "plan"):
        own.pop(name)
    return run(data, given=own, groups=groups, plan=plan)


def evaluate(
    encoder: Any,
    *,
    train_data: Any,
    test_data: Any = None,
    protocols: list[str] = ["knn", "linear"],  # noqa: B006 - never written to
    labels: str = "auto",
    metric: str = "accuracy",
    labels_per_class: int | None = None,
    baselines: bool = True,
    seed: int = 0,
    out: str | None = None,
) -> list:
    """Measure an encoder, beside raw pixels, random weights and the weights it began from.

    Args:
        encoder: a run, a file, timm:NAME (public weights) or random:NAME.
        train_data: labelled images that the protocols learn from.
        test_data: images that are judged; by default the test part of train_data, or a fifth of it.
        protocols: which protocols, separated by commas.
        labels: auto, folders, or a file joined by relative path.
        metric: accuracy, balanced_accuracy or auroc.
        labels_per_class: use only so many labels of each class.
        baselines: measure pixels, random weights and starting weights too.
        seed: of what is drawn.
        out: JSON file for the results; by default results.json of the run.
    """
    from tapetum.evaluate.run import evaluate as run

    own = dict(locals())
    own.pop("run")
    return run(**own)


def embed(
    encoder: Any, data: Any, *, out: str, labels: str = "auto", split: str | None = None, overwrite: bool = False
) -> Settings:
    """Compute the features of images and write them to a file.

    Args:
        encoder: a run, a file, timm:NAME (public weights) or random:NAME.
        data: images in any form that pretrain takes.
        out: a .npz, .parquet or .safetensors file: features, labels, paths.
        labels: auto, folders, none, or a file joined by relative path.
        split: which part of the data to use.
        overwrite: replace a file that exists.
    """
    from tapetum.evaluate.run import embed as run

    return run(encoder, data, out=out, labels=labels, split=split, overwrite=overwrite)


def export(encoder: Any, *, out: str, format: str = "timm") -> Settings:
    """Write an encoder in a form that other tools load, and check that they get the same features.

    Args:
        encoder: a run, a file, timm:NAME (public weights) or random:NAME.
        out: a folder (timm, safetensors) or a file (onnx).
        format: timm, onnx or safetensors.
    """
    from tapetum.encoders import load as load_encoder
    from tapetum.encoders.export import export as run

    return run(load_encoder(encoder), Path(out), format)


def inspect(what: str) -> Settings:
    """Say what a path is: images, a run, an encoder, or a file of weights.

    Args:
        what: any path, also one inside an archive.
    """
    from tapetum.inspecting import inspect as run

    return run(what)


def methods(name: str | None = None) -> Any:
    """List the methods, or show one with its settings, views and source.

    Args:
        name: a method's name; MoCo_v2 finds mocov2.
    """
    from tapetum.describe import all_methods, one_method

    return one_method(name) if name else all_methods()


def new(file: str) -> Settings:
    """Write the skeleton of a method of your own.

    Args:
        file: the Python file to write; it is never overwritten.
    """
    from tapetum.describe import new_method

    return new_method(Path(file))


def check(method: str) -> Settings:
    """Run the conformance suite on a method: what every method must do.

    Args:
        method: a file of your own, or a method's name.
    """
    from tapetum.describe import check_method

    return check_method(method)


def demo(out: str = "demo") -> Settings:
    """Pretrain on photographs of solar cells and measure the result, in some minutes.

    Args:
        out: folder for the demo's files.
    """
    from tapetum.demo import demo as run

    return run(Path(out))


def load(what: Any) -> Encoder:
    """An encoder from a run, a file, timm:NAME or random:NAME; `encoder.encode(images)` gives features."""
    from tapetum.encoders import load as run

    return run(what)
