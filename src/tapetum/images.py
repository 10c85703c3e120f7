"""The verbs that look at images before anything is trained on them: pack and preview."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from tapetum.base.settings import Count, Whole, take_groups
from tapetum.base.verb import verb

Settings = dict[str, Any]


@verb
def pack(
    data: Any,
    *,
    out: str,
    size: Count | None = None,
    format: Literal["auto", "raw", "jpeg"] = "auto",
    channels: Count | None = None,
    levels: tuple[float, float] | None = None,
    labels: Any = "auto",
    split: str | None = None,
    workers: Whole | None = None,
) -> Settings:
    """Write images, with all that is known of them, into one checksummed file that is fast to read.

    Args:
        data: images in any form that pretrain takes.
        out: the .pack file, or a folder for it; one half written is gone on with.
        size: side in pixels. [256, or what the images have]
        format: raw (decoded squares, fastest), jpeg (smallest), or auto, which says what it takes and why.
        channels: as for pretrain. [3, or the array's]
        levels: as for pretrain. [all there can be]
        labels: auto, folders, none, or a file joined by relative path.
        split: which part of the data to use. [all]
        workers: threads that read images. [one a core]
    """
    own = dict(locals())
    from tapetum.data.pack import pack as run

    return run(**own)


@verb
def preview(
    data: Any,
    *,
    out: str = "preview.png",
    method: str = "simclr",
    images: Annotated[int, 1, 100] = 8,
    epoch: Whole = 0,
    seed: Whole = 0,
    encoder: str | None = None,
    image_size: Count | None = None,
    channels: Count | None = None,
    levels: tuple[float, float] | None = None,
    fit: Literal["crop", "pad", "squash"] | None = None,
    labels: Any = "auto",
    split: str | None = None,
    overwrite: bool = False,
    method_settings: Settings | None = None,
    encoder_settings: Settings | None = None,
    views_settings: Settings | None = None,
) -> Settings:
    """Draw a sheet of images and the views of them that a method would be given.

    Args:
        data: images in any form that pretrain takes.
        out: the .png file.
        method: a method's name, or ./mine.py.
        images: how many; the first that training would see in the epoch.
        epoch: whose views; each epoch has its own.
        seed: of order and views, as for pretrain.
        encoder: as for pretrain; views fit its patches. [from the method, the image size and the machine]
        image_size: side of the views in pixels. [from the images and the machine]
        channels: as for pretrain. [3, or the array's]
        levels: as for pretrain. [all there can be]
        fit: how images become squares: crop, pad or squash. [crop]
        labels: auto, folders, none, or a file joined by relative path.
        split: which part of the data to use. [train, where there are parts]
        overwrite: replace a file that exists.

    Settings are typed as for pretrain: --views.crop.scale 0.2,1, --views.blur 0 or --method.small_crops 4.
    """
    own = dict(locals())
    from tapetum.report.sheet import preview as run

    groups = take_groups(own, "method", "encoder", "views")
    return run(own, groups)
