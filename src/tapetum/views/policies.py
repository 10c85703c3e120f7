"""The published augmentation policies, as views."""

from tapetum.views.colour import Gray, Jitter, Solarise
from tapetum.views.filters import Blur
from tapetum.views.geometry import Crop, Flip, Resize, Shift
from tapetum.views.operation import Range, View


def simclr(size: float = 1.0, scale: Range = (0.08, 1.0), blur: float = 0.5) -> View:
    """SimCLR's crop, flip, strong colour, grey and blur. arXiv:2002.05709"""
    return Crop(size, scale) + Flip() + Jitter(0.8, 0.8, 0.8, 0.2) + Gray() + Blur(blur)


def byol(blur: float, solarise: float, size: float = 1.0, scale: Range = (0.08, 1.0)) -> View:
    """BYOL's milder colours, with its two views' own blur and solarise probabilities. arXiv:2006.07733"""
    return Crop(size, scale) + Flip() + Jitter(0.4, 0.4, 0.2, 0.1) + Gray() + Blur(blur) + Solarise(solarise)


def mae() -> View:
    """MAE's crop and flip. arXiv:2111.06377"""
    return Crop(scale=(0.2, 1.0)) + Flip()


def light() -> View:
    """The usual crop and flip of supervised training on photographs."""
    return Crop(scale=(0.35, 1.0)) + Flip()


def shifted() -> View:
    """Shifts of up to an eighth and flips, as usual for small images (CIFAR). arXiv:1512.03385"""
    return Shift() + Flip()


def crop_only(size: float = 1.0) -> View:
    """The whole image, resized and nothing else."""
    return View((Resize(size),))
