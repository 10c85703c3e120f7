"""The verb that swaps settings of a run and compares what comes of it: ablate."""

from __future__ import annotations

from typing import Any, Literal

from tapetum.base.settings import Count, Whole, take_groups
from tapetum.base.verb import verb

Settings = dict[str, Any]


@verb
def ablate(
    data: Any,
    *,
    out: str,
    vary: list[str],
    one_at_a_time: bool = False,
    seeds: tuple[Whole, ...] = (0,),
    protocols: tuple[str, ...] = ("knn", "logistic"),
    method: str | None = None,
    encoder: str | None = None,
    weights: str | None = None,
    image_size: Count | None = None,
    epochs: Count | None = None,
    steps: Count | None = None,
    batch_size: Count | None = None,
    labels: Any = None,
    split: str | None = None,
    test_data: Any = None,
    precision: Literal["fp32", "bf16", "fp16"] | None = None,
    devices: Count | Literal["auto", "cpu"] | None = None,
    workers: Whole | None = None,
    method_settings: Settings | None = None,
    encoder_settings: Settings | None = None,
    optimizer_settings: Settings | None = None,
    views_settings: Settings | None = None,
    protocol_settings: Settings | None = None,
) -> Settings:
    """Pretrain with settings replaced, on equal budgets, and measure: a table of what each is worth.

    Args:
        data: images in any form that pretrain takes.
        out: folder for the runs and ablation.json; the same command goes on with what is there.
        vary: SETTING=VALUE,VALUE of pretrain, once for each; where values hold commas, `;` ends each.
        one_at_a_time: the base run, and runs that differ from it in one setting; else all combinations.
        seeds: each run is repeated with each of these, by commas.
        protocols: protocols or suites that measure, by commas.
        method: how to learn; `tapetum methods` lists all. [simclr]
        encoder: a timm model or a preset. [from the method, the image size and the machine]
        weights: none, public (timm's), an earlier run, or a file. [none]
        image_size: side of the views in pixels. [from the images and the machine]
        epochs: passes over the data.
        steps: optimiser steps, instead of epochs.
        batch_size: images per optimiser step. [from the machine]
        labels: auto, folders, or a file joined by relative path. [auto]
        split: which part of the data to train on. [train, where there are parts]
        test_data: images that judge. [the test part of the data, or all in turn, by cross-validation]
        precision: what to compute in. [what the hardware is fast in]
        devices: auto (all GPUs), cpu, or a number of processes. [auto]
        workers: threads that read images. [one a core]

    Settings of a group are typed --method.temperature 0.2, as for pretrain, and of a protocol --knn.k 5; what
    has no flag here is set by --vary with a single value. Names are checked before the first run starts.
    """
    own = dict(locals())
    from tapetum.ablation import ablate as run

    groups = take_groups(own, "method", "encoder", "optimizer", "views")
    names = ("data", "out", "vary", "one_at_a_time", "seeds", "protocols", "protocol_settings")
    asked = {name: own.pop(name) for name in names}
    return run(**asked, own=own, groups=groups)
