"""Augmentation: operations as plain data, drawn by counter-based random numbers, computed in batches."""

from tapetum.views import carry
from tapetum.views.auto import AugMix, AutoAugment, RandAugment, TrivialAugment
from tapetum.views.batch import Batch, Draw
from tapetum.views.choose import OneOf
from tapetum.views.colour import Brightness, Contrast, Gray, Hue, Jitter, Saturation, Solarise
from tapetum.views.engine import draw
from tapetum.views.fields import Elastic, FieldJitter, FieldWarp
from tapetum.views.filters import Blur, Noise, Sharpness
from tapetum.views.geometry import Crop, Flip, Resize, Shift, VerticalFlip
from tapetum.views.jpeg import Jpeg
from tapetum.views.nest import largest
from tapetum.views.occlude import BlockMask, Cutout, Erase, GridMask, PatchShuffle
from tapetum.views.operation import View
from tapetum.views.policies import (
    augmix,
    autoaugment,
    byol,
    byol_pair,
    crop_only,
    dino,
    light,
    mae,
    moco_v1,
    moco_v2,
    moco_v3,
    msn,
    randaugment,
    shifted,
    simclr,
    strong,
    swav,
    three_augment,
    trivialaugment,
    weak,
    weak_and_strong,
)
from tapetum.views.stains import Stain
from tapetum.views.tones import (
    AutoContrast,
    ChannelDrop,
    ChannelShuffle,
    Equalise,
    Gamma,
    Invert,
    Posterise,
    Quantise,
)
from tapetum.views.turning import Affine, Perspective, QuarterTurn, Rotate

__all__ = [
    "Affine", "AugMix", "AutoAugment", "AutoContrast", "Batch", "BlockMask", "Blur", "Brightness",
    "ChannelDrop", "ChannelShuffle", "Contrast", "Crop", "Cutout", "Draw", "Elastic", "Equalise", "Erase",
    "FieldJitter", "FieldWarp", "Flip", "Gamma", "Gray", "GridMask", "Hue", "Invert", "Jitter", "Jpeg",
    "Noise", "OneOf", "PatchShuffle", "Perspective", "Posterise", "Quantise", "QuarterTurn", "RandAugment",
    "Resize", "Rotate", "Saturation", "Sharpness", "Shift", "Solarise", "Stain",
    "TrivialAugment", "VerticalFlip",
    "View",
    "augmix", "autoaugment", "byol", "byol_pair", "carry", "crop_only", "dino", "draw", "largest", "light",
    "mae", "moco_v1", "moco_v2", "moco_v3", "msn", "randaugment", "shifted", "simclr", "strong", "swav",
    "three_augment", "trivialaugment", "weak", "weak_and_strong",
]  # fmt: skip
