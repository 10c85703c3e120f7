"""Views on a CPU through compiled kernels, where numba is installed and every step of a view has one.

They give what the batched operations give, within rounding, several times as fast: see docs/speed.md.
"""

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from tapetum.views.colour import Gray, Jitter, Solarise
from tapetum.views.filters import Blur
from tapetum.views.operation import Operation, Parameters, View

# What a kernel takes beside whether its step is done: four numbers of each image, 0 where there are fewer.
_COLUMNS: dict[type[Operation], Callable[[Any, Parameters, int], list[Tensor | float]]] = {
    Jitter: lambda step, given, side: [given[n] for n in ("brightness", "contrast", "saturation", "hue")],
    Gray: lambda step, given, side: [],
    Solarise: lambda step, given, side: [given["threshold"]],
    Blur: lambda step, given, side: [given["sigma"] * (side / 224), float(step.reach(side))],
}


@functools.cache
def kernels() -> Any:
    """The compiled kernels, or None without numba."""
    try:
        from tapetum.views import kernels as found
    except ImportError:
        return None
    return found


def can(view: View, pixels: Tensor) -> bool:
    """Whether kernels make this view of these pixels."""
    coloured = [step for step in view.steps if type(step).paint is not Operation.paint]
    return (
        pixels.device.type == "cpu"
        and pixels.dtype == torch.uint8
        and not any(step.TURNS for step in view.steps)
        and all(type(step) in _COLUMNS for step in coloured)
        and (pixels.shape[1] == 3 or all(type(step) in (Blur, Solarise) for step in coloured))
        and kernels() is not None
    )


def render(
    steps: list[tuple[Operation, Parameters]], pixels: Tensor, geometry: Tensor, out: int, leaves: bool
) -> Tensor:
    """Canvases [B, C, R, R] uint8 -> views [B, C, out, out] float32, channels last in memory."""
    compiled = kernels()
    code = {Jitter: compiled.JITTER, Gray: compiled.GRAY, Solarise: compiled.SOLARISE, Blur: compiled.BLUR}
    coloured = [(step, given) for step, given in steps if type(step) in code]
    count, channels = pixels.shape[:2]
    table = torch.zeros(len(coloured), count, 5)
    for k, (step, given) in enumerate(coloured):
        for column, values in enumerate([given["on"], *_COLUMNS[type(step)](step, given, out)]):
            table[k, :, column] = values
    x = torch.empty(count, out, out, channels)
    arguments: tuple[Any, ...] = (
        pixels.contiguous().numpy(),
        geometry[:, [0, 0, 1, 1], [2, 0, 2, 1]].contiguous().numpy(),
        leaves,
        torch.tensor([code[type(step)] for step, _ in coloured], dtype=torch.int64).numpy(),
        table.numpy(),
        x.numpy(),
    )
    threads = min(torch.get_num_threads(), count)
    borders = [count * part // threads for part in range(threads + 1)]
    part = functools.partial(compiled.render, *arguments)
    others = [_pool(threads).submit(part, *ends) for ends in itertools.pairwise(borders[1:])]
    part(0, borders[1])
    for other in others:
        other.result()
    return x.permute(0, 3, 1, 2)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "views")
