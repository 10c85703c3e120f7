"""Which images stand in which step, and their views: a function of the seed and the step alone."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tapetum.base import distributed
from tapetum.base.rows import joined
from tapetum.data.canvas import Canvas
from tapetum.views import Batch, Draw, crop_only, draw


class Feed:
    """Batches of views for a run.

    Args:
        canvas: the images' pixels.
        labels: [N] int64, -1 = unknown, or None.
        views: the views wanted, nested.
        image_size: the run's image size in pixels.
        batch_size: images a step over all processes.
        micro_batch: images whose views are made at once, and that go through a large network at once, on
            each process; it may change between two steps.
        seed: of order and views.
        device: where the views are computed.
    """

    def __init__(
        self,
        canvas: Canvas,
        labels: np.ndarray | None,
        views: Any,
        *,
        image_size: int,
        batch_size: int,
        micro_batch: int,
        seed: int,
        device: torch.device,
    ):
        self.canvas, self.views, self.image_size, self.seed, self.device = (
            canvas,
            views,
            image_size,
            seed,
            device,
        )
        self.labels = torch.full((len(canvas),), -1) if labels is None else torch.as_tensor(labels).long()
        self.batch_size, self.micro_batch = batch_size, micro_batch
        self.steps_per_epoch = max(1, len(canvas) // batch_size)
        self.reading = 0.0  # seconds spent so far waiting for pixels, without the time for views

    def images(self, step: int) -> Tensor:
        """The images of one step."""
        epoch, at = divmod(step, self.steps_per_epoch)
        if getattr(self, "_epoch", None) != epoch:
            self._epoch, self._order = epoch, self.canvas.order(self.seed, epoch, self.batch_size)
        return self._order[at * self.batch_size : (at + 1) * self.batch_size]

    def plan(self, step: int) -> Tensor:
        """The images [B] of one step that are this process's."""
        return self.images(step).chunk(distributed.world())[distributed.rank()]

    def batches(self, start: int, steps: int) -> Iterator[Batch]:
        """This process's images of each step from `start` on."""
        ahead: deque[tuple[int, Tensor]] = deque()  # asked of the canvas, not yet given

        def wanted() -> Iterator[Tensor]:
            for step in range(start, steps):
                ahead.append((step, self.plan(step)))
                yield ahead[-1][1]

        for pixels, size in self._timed(self.canvas.iterate(wanted())):
            yield self.batch(*ahead.popleft(), pixels, size)

    def _timed(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            began = time.perf_counter()
            found = next(batches, None)
            self.reading += time.perf_counter() - began
            if found is None:
                return
            yield found

    def whole(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        """f of all images, whole and undistorted, [N, ...]: each process computes its share, all get it."""
        count, world = len(self.canvas), distributed.world()
        share = -(-count // world)
        mine = torch.arange(distributed.rank() * share, (distributed.rank() + 1) * share) % count
        portions = mine.split(self.micro_batch)
        found = []
        for index, (pixels, size) in zip(portions, self.canvas.iterate(portions)):
            rng = Draw(self.seed, 0, 0, index)
            x, _ = draw(crop_only(), pixels.to(self.device), size, rng, self.image_size)
            found.append(f(x))
        return distributed.gather(torch.cat(found))[:count]

    def batch(self, step: int, index: Tensor, pixels: Tensor, size: Tensor) -> Batch:
        """The views of some images [B] at some step."""
        rng = Draw(self.seed, step // self.steps_per_epoch, step, index)
        parts = zip(*(x.split(self.micro_batch) for x in (index, pixels, size)))
        views, geometry = joined([self._drawn(replace(rng, index=part), *rest) for part, *rest in parts])
        label = self.labels[self.canvas.shown(index)].to(self.device, non_blocking=True)
        here = index.to(self.device, non_blocking=True)
        return Batch({**views, "label": label, "index": here}, replace(rng, index=here), geometry)

    def _drawn(self, rng: Draw, pixels: Tensor, size: Tensor) -> tuple[dict[str, Any], Any]:
        pixels = pixels.to(self.device, non_blocking=True)
        return draw(self.views, pixels, size, rng, self.image_size)
