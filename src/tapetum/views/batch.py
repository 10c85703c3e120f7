"""What a method's loss gets: named views, labels, and random numbers that belong to the images."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from tapetum.base import random
from tapetum.base.errors import unknown


@dataclass(frozen=True)
class Draw:
    """Where random numbers come from: they depend on the image (or the step) and the name, on nothing else.

    index [B] int64 numbers the images; repeat [B] counts an image's earlier occurrences in the epoch.
    """

    seed: int
    epoch: int
    step: int
    index: torch.Tensor
    repeat: torch.Tensor | int = 0

    def image(self, name: str, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Numbers in [0, 1) of each image's own: [B, *shape]."""
        return random.uniform(self.seed, self.epoch, self.index, name, shape, self.repeat)

    def batch(self, name: str, shape: tuple[int, ...] = ()) -> torch.Tensor:
        """Numbers in [0, 1) that the whole batch shares, on every process: [*shape]."""
        step = torch.tensor([self.step], device=self.index.device)
        return random.uniform(self.seed, -1, step, name, shape)[0]


class Batch(dict[str, Any]):
    """Views by their names (nested as the method's `views`), "label" [B] (-1 = unknown) and "index" [B].

    `geometry` mirrors the views' nesting with the transforms [B, 3, 3] from a view's coordinates (x, y, 1) to
    its source image's, both in [0, 1]; `sample.Bent` where a view bends. See carry.py.
    """

    def __init__(self, fields: dict[str, Any], draw: Draw, geometry: Any = None):
        super().__init__(fields)
        self.draw, self.geometry = draw, geometry

    def __missing__(self, name: str) -> Any:
        raise unknown("field of the batch", name, self)

    def __len__(self) -> int:
        return len(self.draw.index)

    def random(
        self, name: str, shape: tuple[int, ...] = (), per: Literal["image", "batch"] = "image"
    ) -> torch.Tensor:
        """Numbers in [0, 1), the same whenever the same is asked of the same images (per="image":
        [B, *shape]) or of the same step (per="batch": [*shape])."""
        return self.draw.image(name, shape) if per == "image" else self.draw.batch(name, shape)
