"""A sheet of images and the views that a method is given of them, as training itself computes them."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tapetum.base.console import say
from tapetum.base.errors import TapetumError, unknown
from tapetum.base.files import write_atomic
from tapetum.data.canvas import Canvas
from tapetum.methods import find
from tapetum.methods.method import Method
from tapetum.train import config, defaults, setup
from tapetum.train.feed import Feed
from tapetum.views import Batch, carry
from tapetum.views.sample import Bent

INK, MUTED, PAPER, EDGE = "#1f2933", "#5b6670", "#f2f3f4", "#c3c9cf"
# Frames that can be told apart, also by those who see few colours; after Okabe and Ito.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#6a51a3")
MARGIN, GAP, FRAME, HEAD, TITLE, CAPTION = 32, 12, 3, 66, 26, 24  # pixels
ORIGINAL, LARGEST = 208, 160  # longer side of an original, and of the largest view where that is larger
FINER = 4  # outlines are drawn at this many times the size, then shrunk


@dataclass
class Sample:
    """Images and their views, as training sees them.

    source: what the images are of; names: what each is called.
    pixels [B, C, R, R] uint8 and size [B, 2]: the images squashed, and their true (height, width).
    views: {"large 0": ([B, C, S, S] in [0, 1], geometry)}.
    method, batch: as training has them, but for the weights.
    """

    source: str
    names: list[str]
    pixels: Tensor
    size: Tensor
    views: dict[str, tuple[Tensor, Tensor | Bent]]
    method: Method | None = None
    batch: Batch | None = None


def preview(given: dict[str, Any], groups: dict[str, dict]) -> dict[str, Any]:
    """The body of the verb `preview`; see tapetum.images.preview for the settings."""
    out = Path(given["out"])
    if out.suffix.lower() != ".png":
        raise unknown("format", out.suffix or out.name, [".png"])
    if out.exists() and not given["overwrite"]:
        raise TapetumError(f"{out} exists already; choose another --out, or add --overwrite.")
    shown = sample(given, groups)
    file = io.BytesIO()
    drawn(
        shown,
        f"What {given['method']} is shown of {shown.source}",
        f"seed {given['seed']}, epoch {given['epoch']}. A frame of the same colour shows where in the image "
        "a view comes from, its dot the view's upper left corner.",
    ).save(file, "PNG", optimize=True)
    write_atomic(out, file.getvalue())
    sides = {name: x.shape[-1] for name, (x, _) in shown.views.items()}
    say(f"wrote {out}: {len(shown.names)} images, each with {len(sides)} views")
    return {"out": str(out), "images": shown.names, "views": sides}


# ---- what is shown ----


def sample(given: dict[str, Any], groups: dict[str, dict]) -> Sample:
    """The first images of an epoch and their views, computed as training with these settings does; what the
    weights are is no matter, and none are read."""
    groups = config.parsed(groups, given["method"])
    source = setup.source_of(given["data"], given["labels"], given["split"])
    given = {**defaults.PLAIN, **given, "batch_size": 1}  # which changes nothing that is seen
    choices = defaults.choose(given, source, find(given["method"]))
    value = {**given, **{name: choice.value for name, choice in choices.items()}}
    method, source = setup.network(value, groups, source, filled=False)
    side = setup.canvas_side(source, method, value["image_size"])
    canvas = Canvas(source, side, memory_limit=0, workers=0, fit=method.encoder.spec.fit)
    feed = Feed(
        canvas,
        source.labels,
        method.views,
        image_size=value["image_size"],
        batch_size=len(source),  # so that a step is an epoch
        micro_batch=min(value["images"], len(source)),
        seed=value["seed"],
        device=torch.device("cpu"),
    )
    index = feed.plan(value["epoch"])[: value["images"]]
    pixels, size = canvas.fetch(index)
    batch = feed.batch(value["epoch"], index, pixels, size)
    names = [source.paths[i] for i in canvas.shown(index).tolist()]
    found = {name: (x, at) for name, x, at in flat({n: batch[n] for n in method.views}, batch.geometry)}
    return Sample(source.name, names, pixels, size, found, method, batch)


def flat(views: Any, geometry: Any, name: str = "") -> Iterator[tuple[str, Tensor, Tensor | Bent]]:
    """Views and geometry of a nest, each with its place in it: "large 0"."""
    if isinstance(views, Tensor):
        yield name.strip(), views, geometry
        return
    for key in views if isinstance(views, dict) else range(len(views)):
        yield from flat(views[key], geometry[key], f"{name} {key}")


def outlines(geometry: Tensor | Bent) -> Tensor:
    """The borders of views in their images: [B, N, 2], x before y, in [0, 1]; the first is the upper left."""
    there = carry.places(geometry, 64)  # [B, 2, 64, 64]
    sides = (there[:, :, 0], there[:, :, :, -1], there[:, :, -1].flip(2), there[:, :, :, 0].flip(2))
    return torch.cat(sides, 2).mT


# ---- how it is drawn ----


def drawn(shown: Sample, title: str, line: str) -> Image.Image:
    """The sheet: a row for each image, a column for each view."""
    heading, text, small = (ImageFont.load_default(size) for size in (22, 14, 12))
    largest = max(x.shape[-1] for x, _ in shown.views.values())
    columns = []  # name, left, side
    left = MARGIN + ORIGINAL + 3 * GAP
    for name, (x, _) in shown.views.items():
        side = round(x.shape[-1] * zoom(largest))
        columns.append((name, left, side))
        left += max(side + 2 * FRAME, round(text.getlength(name))) + GAP
    images = [original(p, s) for p, s in zip(shown.pixels, shown.size.tolist())]
    tallest = max(side for _, _, side in columns) + 2 * FRAME
    heights = [max(image.height + CAPTION, tallest) + 2 * GAP for image in images]
    words = [word for word in (title, line)]
    width = (
        max(left - GAP, MARGIN + round(max(heading.getlength(words[0]), text.getlength(words[1])))) + MARGIN
    )
    sheet = Image.new("RGB", (width, MARGIN + HEAD + TITLE + sum(heights) + MARGIN - 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 6), title, INK, heading)
    draw.text((MARGIN, MARGIN + 26), line, MUTED, text)
    top = MARGIN + HEAD
    draw.text((MARGIN, top), "image", INK, text)
    for name, at, _ in columns:
        draw.text((at, top), name, INK, text)
    top += TITLE
    frames = [outlines(geometry) for _, geometry in shown.views.values()]
    for row, (image, height) in enumerate(zip(images, heights)):
        sheet.paste(framed(image, [frame[row] for frame in frames]), (MARGIN, top))
        name = shortened(shown.names[row], small, ORIGINAL)
        draw.text((MARGIN, top + image.height + 5), name, MUTED, small)
        for k, ((x, _), (_, at, side)) in enumerate(zip(shown.views.values(), columns)):
            draw.rectangle((at, top, at + side + 2 * FRAME - 1, top + side + 2 * FRAME - 1), colour(k))
            sheet.paste(tile(x[row], side), (at + FRAME, top + FRAME))
        top += height
    return sheet


def zoom(largest: int) -> float:
    """How much larger views are drawn than they are; a whole number for small ones, so that pixels show."""
    return LARGEST / largest if largest > LARGEST else LARGEST // largest


def colour(k: int) -> str:
    return COLOURS[k % len(COLOURS)]


def picture(x: Tensor) -> Image.Image:
    """Pixels [C, H, W], uint8 or in [0, 1], as an image: the first three channels, or the only one."""
    x = x if x.dtype == torch.uint8 else (x.float() * 255).round().clamp(0, 255).to(torch.uint8)
    x = x[:3] if len(x) >= 3 else x[:1].expand(3, -1, -1)
    return Image.fromarray(x.permute(1, 2, 0).contiguous().numpy())


def tile(x: Tensor, side: int) -> Image.Image:
    """A view [C, S, S] as it is drawn; enlarged, its pixels stay squares."""
    return picture(x).resize((side, side), Image.Resampling["BOX" if side < x.shape[-1] else "NEAREST"])


def original(pixels: Tensor, size: list[float]) -> Image.Image:
    """An image [C, R, R] that was squashed, in its true shape again."""
    height, width = size
    scale = ORIGINAL / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    return picture(pixels).resize(shape, Image.Resampling.BICUBIC)


def framed(image: Image.Image, borders: list[Tensor]) -> Image.Image:
    """An image with the outline [N, 2] of each view on it, and a dot at its first point."""
    width, height = (FINER * side for side in image.size)
    layer = Image.new("RGBA", (width, height))
    draw = ImageDraw.Draw(layer)
    draw.rectangle((0, 0, width - 1, height - 1), None, EDGE, FINER)
    for k, border in enumerate(borders):
        line = [(x * width, y * height) for x, y in border.tolist()]
        for ink, wide in ((PAPER, 4), (colour(k), 2)):  # a light rim tells it from the image
            draw.line([*line, line[0]], ink, wide * FINER, joint="curve")
            draw.circle(line[0], (wide + 2) * FINER, ink)
    layer = layer.resize(image.size, Image.Resampling.BOX)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def shortened(name: str, font: Any, width: int) -> str:
    """The end of a name, as much of it as fits."""
    short = name
    while font.getlength(short) > width and len(short) > 1:
        short = "…" + short.lstrip("…")[1:]
    return short
