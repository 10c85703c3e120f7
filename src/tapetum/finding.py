"""The verb that looks for a learning rate: lr-find."""

from __future__ import annotations

from typing import Any, Literal

from tapetum.base.settings import Count, Positive, Whole, take_groups
from tapetum.base.verb import verb

Settings = dict[str, Any]


@verb
def lr_find(
    data: Any,
    *,
    out: str = "lr-find",
    overwrite: bool = False,
    points: Count = 100,
    low: Positive | None = None,
    high: Positive | None = None,
    method: str | None = None,
    encoder: str | None = None,
    weights: str | None = None,
    image_size: Count | None = None,
    epochs: Count | None = None,
    batch_size: Count | None = None,
    micro_batch: Count | Literal["auto"] | None = None,
    labels: Any = None,
    split: str | None = None,
    seed: Whole | None = None,
    precision: Literal["fp32", "bf16", "fp16"] | None = None,
    devices: Literal["auto", "cpu"] | None = None,
    workers: Whole | None = None,
    method_settings: Settings | None = None,
    encoder_settings: Settings | None = None,
    optimizer_settings: Settings | None = None,
    views_settings: Settings | None = None,
) -> Settings:
    """Look for a learning rate: let it climb from step to step, and see where the loss falls.

    Args:
        data: images in any form that pretrain takes.
        out: folder for lr.png, the curve, and lr.json, all numbers.
        overwrite: replace files that exist.
        points: steps, each at a higher rate than the one before.
        low: the first rate. [a thousandth of the optimiser's usual one]
        high: the last rate. [a thousand times the usual one]
        method: how to learn; `tapetum methods` lists all. [simclr]
        encoder: a timm model or a preset. [from the method, the image size and the machine]
        weights: none, public (timm's), an earlier run, or a file. [none]
        image_size: side of the views in pixels. [from the images and the machine]
        epochs: of the training whose beginning this is; a schedule's progress counts by them.
        batch_size: images per optimiser step, over all processes; a rate is for one. [from the machine]
        micro_batch: images at once; auto finds what fits in memory. [all]
        labels: auto, folders, or a file joined by relative path. [auto]
        split: which part of the data to use. [train, where there are parts]
        seed: of weights, order and views. [0]
        precision: what to compute in. [what the hardware is fast in]
        devices: auto (one GPU where there is one) or cpu. [auto]
        workers: threads that read images. [one a core]

    Settings of a group are typed --method.temperature 0.2, as for pretrain. What trains here is thrown away.
    A loss that falls may be a collapse: the rank of the features is measured on the way, and rates at which
    it breaks down are not proposed.
    """
    own = dict(locals())
    from tapetum.sweeping import find

    groups = take_groups(own, "method", "encoder", "optimizer", "views")
    names = ("data", "out", "overwrite", "points", "low", "high")
    asked = {name: own.pop(name) for name in names}
    return find(**asked, own=own, groups=groups)
