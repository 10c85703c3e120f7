"""Augmentation: operations as plain data, drawn by counter-based random numbers, computed in batches."""

from tapetum.views.batch import Batch, Draw
from tapetum.views.colour import Gray, Jitter, Solarise
from tapetum.views.engine import draw
from tapetum.views.filters import Blur
from tapetum.views.geometry import Crop, Flip, Resize, Shift
from tapetum.views.nest import largest
from tapetum.views.operation import View
from tapetum.views.policies import byol, crop_only, light, mae, shifted, simclr

__all__ = [
    "Batch", "Blur", "Crop", "Draw", "Flip", "Gray", "Jitter", "Resize", "Shift", "Solarise", "View",
    "byol", "crop_only", "draw", "largest", "light", "mae", "shifted", "simclr",
]  # fmt: skip
