"""A picture of what an encoder finds alike: query images, each with its nearest neighbours."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch.nn import functional as F

from tapetum.base import random
from tapetum.base.errors import TapetumError
from tapetum.base.files import write_atomic
from tapetum.evaluate.split import in_turn
from tapetum.features import Features

TILE, FRAME, GAP, MARGIN, CAPTION, BREAK = 128, 5, 14, 32, 24, 30  # pixels
INK, GREY, PAPER, LINE = "#1f2933", "#66727f", "#ffffff", "#d5dae0"
SAME, OTHER = "#2a8f6d", "#d1603d"  # also said by the captions, for who cannot tell them apart


def nearest(x: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` rows of x [N, D] nearest to each of the rows `queries` [Q], and their cosines; [Q, k]."""
    unit = F.normalize(torch.from_numpy(np.array(x)), dim=1)
    near = unit[queries] @ unit.T  # [Q, N]
    near[torch.arange(len(queries)), queries] = -torch.inf
    near = torch.where(near.isnan(), -torch.inf, near)  # images that cannot be read
    value, index = near.topk(k, dim=1)
    return index.numpy(), value.numpy()


def neighbours_png(
    features: Features,
    out: str | Path,
    *,
    queries: int = 8,
    k: int = 6,
    seed: int = 0,
    title: str = "Nearest neighbours",
) -> None:
    """Write a PNG: a row for each of `queries` images, with its `k` nearest neighbours in cosine similarity.

    Queries are drawn from all classes in turn. With labels, frames and captions tell the classes.
    """
    rows = np.array([row for row in range(len(features)) if row not in features.damaged])
    if len(rows) < 2:
        raise TapetumError(f"{features.source.name} has fewer than 2 images to show neighbours of.")
    labels = features.labels
    if labels is None or not (labels[rows] >= 0).any():
        order = rows[random.order(seed, 0, len(rows)).numpy()]
    else:
        rows = rows[labels[rows] >= 0]
        order = rows[in_turn(labels[rows], seed)]
    chosen = order[:queries]
    index, likeness = nearest(features.x, chosen, min(k, len(features) - len(features.damaged) - 1))

    columns = 1 + index.shape[1]
    top = MARGIN + 62
    width = 2 * MARGIN + columns * TILE + (columns - 1) * GAP + BREAK
    height = top + len(chosen) * (TILE + CAPTION + GAP) + (MARGIN if labels is not None else MARGIN - GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    text, small, large = (ImageFont.load_default(size) for size in (14, 12, 22))
    draw.text((MARGIN, MARGIN - 8), title, INK, large)
    left = MARGIN + TILE + GAP + BREAK
    draw.text((MARGIN, top - 24), "query", GREY, text)
    draw.text((left, top - 24), "nearest neighbours, cosine similarity below", GREY, text)
    middle = MARGIN + TILE + (GAP + BREAK) // 2
    draw.line((middle, top, middle, top + len(chosen) * (TILE + CAPTION + GAP) - GAP), LINE, 2)

    names, read = features.source.label_names(), features.source.read
    for r, query in enumerate(chosen.tolist()):
        y = top + r * (TILE + CAPTION + GAP)
        _tile(sheet, read(query), (MARGIN, y), colour=LINE, caption=names[query] or "", font=small)
        for c, (row, value) in enumerate(zip(index[r].tolist(), likeness[r].tolist())):
            known = names[row] is not None and names[query] is not None
            colour = (SAME if names[row] == names[query] else OTHER) if known else LINE
            caption = f"{value:.2f}  {names[row] or ''}"
            place = (left + c * (TILE + GAP), y)
            _tile(sheet, read(row), place, colour=colour, caption=caption, font=small)
    if labels is not None:
        x, y = left, height - MARGIN
        for colour, words in ((SAME, "same class as the query"), (OTHER, "another class")):
            draw.rounded_rectangle((x, y, x + 14, y + 14), 3, colour)
            draw.text((x + 22, y - 1), words, GREY, small)
            x += 44 + int(draw.textlength(words, small))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    write_atomic(out, file.getvalue())


def _tile(
    sheet: Image.Image, image: np.ndarray, at: tuple[int, int], *, colour: str, caption: str, font
) -> None:
    """One framed image with a line of text below."""
    (x, y), side, draw = at, TILE - 2 * FRAME, ImageDraw.Draw(sheet)
    inner = ImageOps.fit(Image.fromarray(image), (side, side), Image.Resampling.BICUBIC)
    draw.rounded_rectangle((x, y, x + TILE - 1, y + TILE - 1), 6, colour)
    sheet.paste(inner, (x + FRAME, y + FRAME))
    while draw.textlength(caption, font) > TILE:
        caption = caption.rstrip("…")[:-1] + "…"
    draw.text((x, y + TILE + 5), caption, INK, font)
