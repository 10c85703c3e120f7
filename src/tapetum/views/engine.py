"""Computes views on whole batches: the geometry is composed before a pixel is touched, colours follow.

Images come as canvases: squares [C, R, R] uint8 into which the whole image was squashed, beside their true
size, so that a crop's area and aspect are those of the photograph and only one resampling stands between the
canvas and the view. Parameters are drawn on the CPU, so that they are the same whatever computes the pixels.
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor

from tapetum.views import fast
from tapetum.views.batch import Draw
from tapetum.views.geometry import middle
from tapetum.views.operation import Operation, Parameters, View, on_device
from tapetum.views.sample import Bent, box, centres, warp


def draw(
    tree: Any, pixels: Tensor, size: Tensor, rng: Draw, image_size: int, at: str = ""
) -> tuple[Any, Any]:
    """Views of canvases.

    Args:
        tree: views in nested dicts and lists.
        pixels: [B, C, R, R] uint8, or float in [0, 1]; the views are computed where they lie.
        size: [B, 2] height and width of the images before they were squashed.
        rng: the images' random numbers.
        image_size: the run's image size in pixels; views' sizes are shares of it.

    Returns:
        The same nest twice: pixels [B, C, S, S] float32 in [0, 1], channels last in memory, and the
        transforms [B, 3, 3] from a view's coordinates to its image's; `Bent` for views that bend. See
        carry.py.
    """
    if isinstance(tree, dict):
        parts = {n: draw(v, pixels, size, rng, image_size, f"{at}/{n}") for n, v in tree.items()}
        return {n: x for n, (x, _) in parts.items()}, {n: g for n, (_, g) in parts.items()}
    if isinstance(tree, list):
        pairs = [draw(v, pixels, size, rng, image_size, f"{at}/{i}") for i, v in enumerate(tree)]
        return [x for x, _ in pairs], [g for _, g in pairs]
    view = View() + tree
    steps = parameters(view, rng, size, pixels.shape[-1], at)
    geometry = compose(steps, size)
    out, fill = view.size(image_size), view.outside()
    plain = not any(step.TURNS for step in view.steps) and fill in (None, "mirror")
    if plain and fast.can(view, pixels):
        return fast.render(steps, pixels, geometry, out, fill is not None), geometry
    field = None if plain else bent(steps, out, pixels)
    if plain:
        x = box(pixels, geometry.to(pixels.device, non_blocking=True), out, fill is not None)
    else:
        x = warp(pixels, geometry, out, fill or "edge", field)
    for step, given in steps:
        x = step.paint(x, given)
    x = x.contiguous(memory_format=torch.channels_last)
    return x, geometry if field is None else Bent(geometry.to(field), field)


def parameters(
    view: View, rng: Draw, size: Tensor, side: int, at: str = ""
) -> list[tuple[Operation, Parameters]]:
    """What each step of a view draws for each image. Random numbers are named by the view's place in the
    nest, the kind of step, and how many of that kind came before; so labels (a quarter turn, a patch order)
    can be had again by whoever knows them."""
    seen: Counter[str] = Counter()
    drawn = []
    for step in view.steps:
        kind = type(step).__name__.lower()
        name = f"{at}:{kind}" + (f":{seen[kind]}" if seen[kind] else "")
        seen[kind] += 1
        drawn.append((step, step.draw(rng.image(name, (step.SLOTS,)), size, side)))
    return drawn


def compose(steps: list[tuple[Operation, Parameters]], size: Tensor) -> Tensor:
    """The transforms [B, 3, 3] of all steps together, from the view's coordinates to the image's; of images
    of these sizes [B, 2] the square in the middle where no step chooses a part, as encoders do."""
    geometry = torch.eye(3).repeat(len(size), 1, 1)
    if not any(step.FRAMES for step, _ in steps):
        geometry = middle(size)
    for step, given in steps:
        if (inner := step.place(given)) is not None:
            geometry = geometry @ inner
    return geometry


def bent(steps: list[tuple[Operation, Parameters]], out: int, pixels: Tensor) -> Tensor | None:
    """By how much the steps that bend move each pixel of a view before all other geometry: [B, 2, S, S]."""
    at, field = centres(out, pixels.device), None
    for step, given in steps:
        if (moved := step.bend(on_device(given, pixels), at)) is not None:
            field = moved if field is None else field + moved
    return field
