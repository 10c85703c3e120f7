"""How well the classes of pixels were told: counts of each image, and the numbers that are made of them."""

import torch
from torch import Tensor


def counts(predicted: Tensor, truth: Tensor, classes: int, ignored: int = 255) -> tuple[Tensor, Tensor]:
    """For each image and class how many pixels are rightly predicted of it and how many at all [B, C, 2], and
    how many truly are of it [B, C], all int64.

    Args:
        predicted, truth: [B, H, W], classes as whole numbers.
        classes: their number C; truth may hold classes that are never predicted.
        ignored: pixels of this truth count nowhere.

    Sums over images are counts of all their pixels together.
    """
    known = (truth != ignored).flatten(1)  # [B, P]
    image = torch.arange(len(truth), device=truth.device)[:, None] * classes
    said, true = (part.flatten(1).long() + image for part in (predicted, truth))

    def counted(places: Tensor) -> Tensor:
        return torch.bincount(places, minlength=len(truth) * classes).view(len(truth), classes)

    right = known & (said == true)
    return torch.stack([counted(true[right]), counted(said[known])], 2), counted(true[known])


def class_iou(told: Tensor, true: Tensor) -> Tensor:
    """Intersection over union of each class [C] float64, of all images of `counts` together; not a number for
    classes that are neither there nor predicted."""
    right, said = told.sum(0).double().unbind(1)
    return right / (said + true.sum(0) - right)


def mean_iou(told: Tensor, true: Tensor) -> float:
    """The mean of `class_iou` over the classes that are there or predicted, in [0, 1] (mIoU)."""
    return float(class_iou(told, true).nanmean())


def pixel_accuracy(told: Tensor, true: Tensor) -> float:
    """The share of all pixels of `counts` that is told rightly."""
    return float(told[..., 0].sum() / true.sum())
