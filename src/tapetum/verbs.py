"""What tapetum does, one function a verb, for the command line and Python. torch is imported inside only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tapetum.ablating import ablate  # noqa: F401 - a verb of its own file
from tapetum.base.settings import Amount, Count, Positive, Whole, take_groups
from tapetum.base.verb import VERBS, verb  # noqa: F401 - the command line looks for them here
from tapetum.classifiers import export, fit, predict  # noqa: F401 - verbs that make an encoder of use
from tapetum.comparing import compare  # noqa: F401 - a verb of its own file
from tapetum.finding import lr_find  # noqa: F401 - a verb of its own file
from tapetum.images import pack, preview  # noqa: F401 - verbs that look at images alone
from tapetum.measuring import cache, embed, evaluate, protocols  # noqa: F401 - verbs of features
from tapetum.pages import look, report, ui  # noqa: F401 - verbs that make pages

if TYPE_CHECKING:
    from tapetum.encoders import Encoder

Settings = dict[str, Any]


@verb
def pretrain(
    data: Any = None,
    *,
    out: str | None = None,
    method: str | None = None,
    encoder: str | None = None,
    weights: str | None = None,
    keep_close: Amount | None = None,
    image_size: Count | None = None,
    channels: Count | None = None,
    levels: tuple[float, float] | None = None,
    fit: Literal["crop", "pad", "squash"] | None = None,  # noqa: F811 - a setting, not the verb
    epochs: Count | None = None,
    steps: Count | None = None,
    budget: str | None = None,
    batch_size: Count | None = None,
    micro_batch: Count | Literal["auto"] | None = None,
    labels: Any = None,
    split: str | None = None,
    test_data: Any = None,
    eval_every: Count | None = None,
    seed: Whole | None = None,
    precision: Literal["fp32", "bf16", "fp16"] | None = None,
    compile: bool | None = None,
    devices: Count | Literal["auto", "cpu"] | None = None,
    parallel: Literal["data", "sharded"] | None = None,
    grad_checkpointing: bool | None = None,
    workers: Whole | None = None,
    resume: str | None = None,
    plan: bool = False,
    stop_when: Literal["sick"] | None = None,
    log_every: Count | None = None,
    checkpoint_steps: Count | None = None,
    keep_checkpoints: Count | None = None,
    skips: Count | None = None,
    rollbacks: Whole | None = None,
    read_timeout: Positive | None = None,
    logger: list[str | Callable] | None = None,
    method_settings: Settings | None = None,
    encoder_settings: Settings | None = None,
    optimizer_settings: Settings | None = None,
    views_settings: Settings | None = None,
) -> Settings:
    """Train an encoder on images, labels optional.

    Args:
        data: a folder, a path inside a zip or tar, a list (CSV, TSV, Parquet), shards, arrays.
        out: the run's folder; it is made, never overwritten.
        method: how to learn; `tapetum methods` lists all, ./mine.py is one of your own. [simclr]
        encoder: a timm model or a preset. [from the method, the image size and the machine]
        weights: none, public (timm's), an earlier run, or a file. [none]
        keep_close: weight of the distance to the features that the encoder began with. [0]
        image_size: side of the views in pixels. [from the images and the machine]
        channels: 3 for colour, 1 for grey, or as many as arrays have. [3, or the array's]
        levels: values of deep images that become black and white, such as 0,4095. [all there can be]
        fit: how images become squares: crop, pad or squash. [crop]
        epochs: passes over the data. [about 3,000 steps]
        steps: optimiser steps, instead of epochs.
        budget: time to fill, such as 8h or 90m, instead of epochs.
        batch_size: images per optimiser step, over all processes. [from the machine]
        micro_batch: images at once on a process; auto finds what fits in memory. [all]
        labels: auto, folders, none, or a file joined by relative path. [auto]
        split: which part of the data to use. [train, where there are parts]
        test_data: held-out images for the look at the features while training.
        eval_every: epochs between two looks. [a tenth of all]
        seed: of weights, order and views. [0]
        precision: what to compute in. [what the hardware is fast in]
        compile: have torch compile the encoder's blocks; worth it on GPUs in long runs. [false]
        devices: auto (all GPUs), cpu, or a number of processes. [auto]
        parallel: what processes share: data, or sharded, the weights as well, which large ones need. [data]
        grad_checkpointing: true computes blocks anew in the backward pass, for less memory. [false]
        workers: threads that read images. [one a core]
        resume: a run to go on with; auto starts or goes on with --out.
        plan: print every setting with its reason, and the measured cost, and stop.
        stop_when: sick ends a run whose health is bad at two looks in a row. [a warning is all]
        log_every: steps between two lines of metrics.jsonl. [10]
        checkpoint_steps: steps between two checkpoints. [each epoch, but a minute apart]
        keep_checkpoints: how many checkpoints are kept. [2]
        skips: steps in a row without finite numbers, before the run goes back to its last checkpoint. [10]
        rollbacks: how often it goes back, each time to learn at half the rate; then it ends. [2]
        read_timeout: seconds that reading images may take before the run ends. [300]
        logger: tensorboard, wandb, mlflow; from Python also a function of (step, numbers).

    Settings of a group are typed --method.temperature 0.2, --views.crop.scale 0.2,1 or --optimizer.lr 1e-3
    (`tapetum methods NAME` lists all three), and --encoder.depth 6 (timm's arguments); --views.with
    erase,noise adds operations to the views. In Python they are dicts. What changes while training is written
    "0.996->1". Returns the last numbers.
    """
    from tapetum.train.pretrain import pretrain as run

    own = dict(locals())
    groups = take_groups(own, "method", "encoder", "optimizer", "views")
    for name in ("run", "data", "plan"):
        own.pop(name)
    return run(data, given=own, groups=groups, plan=plan)


@verb
def inspect(what: str) -> Settings:
    """Say what a path is: images, a run, an encoder, a classifier, features, results, weights, or a method.

    Args:
        what: any path, also one inside an archive.
    """
    from tapetum.inspecting import inspect as run

    return run(what)


@verb
def methods(name: str | None = None) -> Any:
    """List the methods, or show one with its settings, views and source.

    Args:
        name: a method's name (MoCo_v2 finds mocov2) or a file ./mine.py.
    """
    from tapetum.describe import all_methods, one_method

    return one_method(name) if name else all_methods()


@verb
def new(file: str) -> Settings:
    """Write the skeleton of a method of your own.

    Args:
        file: the Python file to write; it is never overwritten.
    """
    from tapetum.describe import new_method

    return new_method(Path(file))


@verb
def check(method: str) -> Settings:
    """Run the conformance suite on a method: what every method must do.

    Args:
        method: a file of your own, or a method's name.
    """
    from tapetum.describe import check_method

    return check_method(method)


@verb
def demo(*, out: str = "demo") -> Settings:
    """Pretrain on photographs of solar cells and measure the result, in some minutes.

    Args:
        out: folder for the demo's files.
    """
    from tapetum.demo import demo as run

    return run(Path(out))


def load(what: Any, image_size: int | None = None) -> Encoder:
    """An encoder from a run, a file, timm:NAME or random:NAME; `encoder.encode(images)` gives features."""
    from tapetum.encoders import load as run

    return run(what, image_size)
