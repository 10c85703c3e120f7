"""The published augmentation policies, as views."""

from typing import Any, Literal

from tapetum.views.auto import AugMix, AutoAugment, RandAugment, TrivialAugment
from tapetum.views.choose import OneOf
from tapetum.views.colour import Gray, Jitter, Solarise
from tapetum.views.filters import Blur
from tapetum.views.geometry import Crop, Flip, Resize, Shift
from tapetum.views.occlude import Cutout
from tapetum.views.operation import Range, View

SMALL = 0.43  # of the image size: the published 96 of 224 pixels


def simclr(size: float = 1.0, scale: Range = (0.08, 1.0), blur: float = 0.5) -> View:
    """SimCLR's crop, flip, strong colour, grey and blur. arXiv:2002.05709"""
    return Crop(size, scale) + Flip() + Jitter(0.8, 0.8, 0.8, 0.2) + Gray() + Blur(blur)


def byol(blur: float, solarise: float, size: float = 1.0, scale: Range = (0.08, 1.0)) -> View:
    """BYOL's milder colours, with its two views' own blur and solarise probabilities. arXiv:2006.07733"""
    return Crop(size, scale) + Flip() + Jitter(0.4, 0.4, 0.2, 0.1) + Gray() + Blur(blur) + Solarise(solarise)


def byol_pair(size: float = 1.0, scale: Range = (0.08, 1.0)) -> list[View]:
    """BYOL's two views: one always blurred, the other seldom, but at times solarised. arXiv:2006.07733"""
    return [byol(1.0, 0.0, size, scale), byol(0.1, 0.2, size, scale)]


def moco_v1() -> View:
    """MoCo's crop, grey, colour and flip. arXiv:1911.05722"""
    return Crop(scale=(0.2, 1.0)) + Gray() + Jitter(0.4, 0.4, 0.4, 0.4, p=1.0) + Flip()


def moco_v2() -> View:
    """MoCo v2's, with blur. arXiv:2003.04297"""
    return Crop(scale=(0.2, 1.0)) + Jitter(0.4, 0.4, 0.4, 0.1) + Gray() + Blur() + Flip()


def moco_v3(smallest: float = 0.08) -> list[View]:
    """MoCo v3's two views, which are BYOL's; `smallest` crops are 0.2 of the area for ResNets.
    arXiv:2104.02057"""
    return byol_pair(scale=(smallest, 1.0))


def swav(small_crops: int = 6) -> dict[str, list[View]]:
    """SwAV's two large and several small crops, in SimCLR's colours. arXiv:2006.09882"""
    small = simclr(SMALL, (0.05, 0.14))
    return {"large": 2 * [simclr(scale=(0.14, 1.0))], "small": small_crops * [small]}


def dino(small_crops: int = 6, divide: float = 0.4) -> dict[str, list[View]]:
    """DINO's two large and several small crops, in BYOL's colours; `divide` of the area lies between them.
    arXiv:2104.14294"""
    small = byol(0.5, 0.0, SMALL, (0.05, divide))
    return {"large": byol_pair(scale=(divide, 1.0)), "small": small_crops * [small]}


def msn(small_crops: int = 10) -> dict[str, Any]:
    """MSN's target, anchor and small crops, in SimCLR's colours at half their strength. arXiv:2204.07141"""
    look = Flip() + Jitter(0.4, 0.4, 0.4, 0.1) + Gray() + Blur()
    large, small = Crop(scale=(0.3, 1.0)) + look, Crop(SMALL, (0.05, 0.3)) + look
    return {"target": large, "anchor": large, "small": small_crops * [small]}


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


def three_augment() -> View:
    """DeiT III's: crop, flip, one of grey, solarising and blur, and colour. arXiv:2204.07118"""
    choice = OneOf((Gray(1.0), Solarise(1.0), Blur(1.0)))
    return Crop() + Flip() + choice + Jitter(0.3, 0.3, 0.3, 0.0, p=1.0)


def autoaugment(policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet") -> View:
    """AutoAugment as published: after crop and flip for ImageNet; for CIFAR-10 after shift and flip (SVHN:
    shift alone), with a Cutout of 16 (SVHN: 20) of 32 pixels. arXiv:1805.09501"""
    if policy == "imagenet":
        return Crop() + Flip() + AutoAugment(policy, "gray")
    moved = Shift(fill="gray") + Flip(0.5 if policy == "cifar10" else 0.0)
    return moved + AutoAugment(policy, "gray") + Cutout(16 / 32 if policy == "cifar10" else 20 / 32)


def randaugment(layers: int = 2, magnitude: float = 9.0) -> View:
    """RandAugment after crop and flip. arXiv:1909.13719"""
    return Crop() + Flip() + RandAugment(layers, (magnitude, magnitude), fill="gray")


def trivialaugment() -> View:
    """TrivialAugment (wide) after crop and flip. arXiv:2103.10158"""
    return Crop() + Flip() + TrivialAugment("gray")


def augmix() -> View:
    """AugMix after crop and flip; its consistency loss belongs to a method. arXiv:1912.02781"""
    return Crop() + Flip() + AugMix(fill="gray")


def weak() -> View:
    """FixMatch's weak view: flip, and shift by up to an eighth. arXiv:2001.07685"""
    return Flip() + Shift()


def strong() -> View:
    """FixMatch's strong view: the weak one, RandAugment at random strengths, and Cutout. arXiv:2001.07685"""
    return weak() + RandAugment(2, (0.0, 30.0), "fixmatch") + Cutout(cover="mean")


def weak_and_strong() -> dict[str, Any]:
    """FixMatch's two views of an image. arXiv:2001.07685"""
    return {"weak": weak(), "strong": strong()}
