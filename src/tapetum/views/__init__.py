"""Augmentation: specs as plain data, drawn by counter-based random numbers, computed on whole batches."""

from tapetum.views.batch import Batch, Draw
from tapetum.views.engine import draw
from tapetum.views.policies import byol, crop_only, light, mae, shifted, simclr
from tapetum.views.specs import Blur, Crop, Flip, Gray, Jitter, Resize, Shift, Solarise, View, largest

__all__ = [
    "Batch", "Blur", "Crop", "Draw", "Flip", "Gray", "Jitter", "Resize", "Shift", "Solarise", "View",
    "byol", "crop_only", "draw", "largest", "light", "mae", "shifted", "simclr",
]  # fmt: skip
