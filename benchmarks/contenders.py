"""SimCLR's views as each library makes them best, all with the same parameters, from files or from pixels.

What the field's libraries leave open is chosen for their speed: OpenCV and kornia do not antialias (ours and
torchvision do), torchvision on PIL blurs with PIL, kornia gets whole batches, albumentations chooses the
kernel by its sigma, and each decodes with what it brings. albumentations is taken up to 2.0.8, its last
version under the MIT licence.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

import tapetum.base.torchvision_compat  # noqa: F401 - makes torchvision importable beside a CPU's torch
from benchmarks.rows import version

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PACKAGES = ("torch", "torchvision", "pillow", "kornia", "albumentations", "opencv-python-headless", "lightly")


@dataclass(frozen=True)
class Policy:
    """Args:
    size: side of the views in pixels.
    scale: range of the share of the area that a crop takes.
    jitter: strengths of brightness, contrast, saturation and hue; four of five views are jittered.
    blur: probability of a Gaussian blur; a fifth of the views turn grey.
    normalise: with ImageNet's statistics, else views lie in [0, 1].
    """

    size: int
    scale: tuple[float, float]
    jitter: tuple[float, float, float, float]
    blur: float
    normalise: bool

    @property
    def sigma(self) -> tuple[float, float]:
        """Of the blur, in pixels of a view: 0.1 to 2 at 224 pixels, else in proportion."""
        return 0.1 * self.size / 224, 2.0 * self.size / 224

    @property
    def kernel(self) -> int:
        """Side of a blur's kernel that reaches three times the largest sigma."""
        return 2 * math.ceil(3 * self.sigma[1]) + 1


@dataclass(frozen=True)
class Contender:
    """Args:
    read: a JPEG file -> an image in the form that it takes.
    take: pixels uint8 [H, W, 3] -> the same.
    views: images in that form -> two views of each, float32 [2 B, 3, S, S].
    batch: images at once.
    """

    read: Callable[[Path], Any]
    take: Callable[[np.ndarray], Any]
    views: Callable[[list], Tensor]
    batch: int = 32


def contenders(policy: Policy, device: str = "cpu") -> tuple[dict[str, Contender], dict[str, str]]:
    """Those that are installed, and why others are missing. On a GPU only what computes there takes part."""
    found, missing = {}, {}
    for name, make in (GPU if device != "cpu" else CPU).items():
        try:
            found[name] = make(policy, device)
        except ImportError as error:
            missing[name] = str(error)
    return found, missing


# ---- one image at a time ----


def each(view: Callable[[Any], Tensor]) -> Callable[[list], Tensor]:
    """A function of one image, called twice with each."""
    return lambda images: torch.stack([view(image) for _ in range(2) for image in images])


def pil(file: Path) -> Image.Image:
    """As torchvision's own loader reads a file."""
    with file.open("rb") as handle:
        return Image.open(handle).convert("RGB")


class PilBlur:
    """Blurs as nearly all code for PIL does; torchvision's own takes four times as long."""

    def __init__(self, sigma: tuple[float, float]):
        self.sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        sigma = self.sigma[0] + (self.sigma[1] - self.sigma[0]) * float(torch.rand(()))
        return image.filter(ImageFilter.GaussianBlur(sigma))


def torchvision_pil(policy: Policy, device: str) -> Contender:
    from torchvision import transforms as T

    steps = [
        T.RandomResizedCrop(policy.size, policy.scale),
        T.RandomHorizontalFlip(),
        T.RandomApply([T.ColorJitter(*policy.jitter)], 0.8),
        T.RandomGrayscale(0.2),
        *([T.RandomApply([PilBlur(policy.sigma)], policy.blur)] if policy.blur else []),
        T.ToTensor(),
        *([T.Normalize(MEAN, STD)] if policy.normalise else []),
    ]
    return Contender(pil, Image.fromarray, each(T.Compose(steps)))


def torchvision_v2(policy: Policy, device: str) -> Contender:
    from torchvision.transforms import v2

    blur = v2.GaussianBlur(policy.kernel, policy.sigma)
    steps = [
        v2.RandomResizedCrop(policy.size, policy.scale, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(*policy.jitter)], 0.8),
        v2.RandomGrayscale(0.2),
        *([v2.RandomApply([blur], policy.blur)] if policy.blur else []),
        v2.ToDtype(torch.float32, scale=True),
        *([v2.Normalize(MEAN, STD)] if policy.normalise else []),
    ]

    def take(pixels: np.ndarray) -> Tensor:  # channels last in memory: resizing is twice as fast
        return torch.from_numpy(pixels).permute(2, 0, 1).to(device)

    return Contender(lambda file: take(np.array(pil(file))), take, each(v2.Compose(steps)))


def albumentations(policy: Policy, device: str) -> Contender:
    if version("albumentationsx"):
        raise ImportError("albumentationsx is installed in its place, which is AGPL")
    if (found := version("albumentations")) is None:
        raise ImportError("not installed")
    if tuple(map(int, found.split(".")[:3])) > (2, 0, 8):
        raise ImportError(f"{found} is not under the MIT licence; 2.0.8 is the last that is")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer version
    import albumentations as A
    import cv2
    from albumentations.pytorch import ToTensorV2

    cv2.setNumThreads(0)
    *factors, hue = policy.jitter
    brightness, contrast, saturation = ((max(0.0, 1 - by), 1 + by) for by in factors)
    steps = [
        A.RandomResizedCrop((policy.size, policy.size), scale=policy.scale),
        A.HorizontalFlip(p=0.5),
        A.ColorJitter(brightness, contrast, saturation, (-hue, hue), p=0.8),
        A.ToGray(p=0.2),
        *([A.GaussianBlur(0, policy.sigma, p=policy.blur)] if policy.blur else []),
        A.Normalize(MEAN, STD) if policy.normalise else A.ToFloat(255),
        ToTensorV2(),
    ]
    view = A.Compose(steps)
    return Contender(
        lambda file: cv2.imread(str(file), cv2.IMREAD_COLOR_RGB),
        lambda pixels: pixels,
        each(lambda image: view(image=image)["image"]),
    )


def lightly(policy: Policy, device: str) -> Contender:
    if version("lightly") is None:
        raise ImportError("not installed")
    from lightly.transforms import SimCLRTransform

    brightness, contrast, saturation, hue = policy.jitter
    both = SimCLRTransform(
        input_size=policy.size,
        cj_bright=brightness,
        cj_contrast=contrast,
        cj_sat=saturation,
        cj_hue=hue,
        min_scale=policy.scale[0],
        gaussian_blur=policy.blur,
        sigmas=policy.sigma,
        normalize={"mean": MEAN, "std": STD} if policy.normalise else None,
    )
    return Contender(pil, Image.fromarray, lambda images: torch.stack([v for i in images for v in both(i)]))


# ---- whole batches ----


def kornia(policy: Policy, device: str) -> Contender:
    if version("kornia") is None:
        raise ImportError("not installed")
    import kornia.augmentation as K
    import kornia_rs

    blur = K.RandomGaussianBlur((policy.kernel, policy.kernel), policy.sigma, p=policy.blur)
    steps = [
        K.RandomResizedCrop((policy.size, policy.size), policy.scale),
        K.RandomHorizontalFlip(),
        K.ColorJitter(*policy.jitter, p=0.8),
        K.RandomGrayscale(p=0.2),
        *([blur] if policy.blur else []),
        *([K.Normalize(MEAN, STD)] if policy.normalise else []),
    ]
    view = torch.nn.Sequential(*steps)

    def take(pixels: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(device)

    @torch.inference_mode()
    def views(images: list[Tensor]) -> Tensor:
        x = torch.stack(images) / 255
        return torch.cat([view(x), view(x)])

    def read(file: Path) -> Tensor:
        return take(np.asarray(kornia_rs.io.read_image_jpegturbo(str(file))))

    return Contender(read, take, views, batch=256 if device != "cpu" or policy.size < 64 else 16)


CPU: dict[str, Callable[[Policy, str], Contender]] = {
    "torchvision on PIL": torchvision_pil,
    "torchvision v2 on uint8 tensors": torchvision_v2,
    "kornia": kornia,
    "albumentations": albumentations,
    "lightly": lightly,
}
GPU = {"torchvision v2 on uint8 tensors": torchvision_v2, "kornia": kornia}
