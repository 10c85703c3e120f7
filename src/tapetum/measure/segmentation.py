"""How well the classes of pixels were told: counts of each image, and the numbers that are made of them."""

import torch
from torch import Tensor


def counts(predicted: Tensor, truth: Tensor, classes: int, ignored: int = 255) -> Tensor:
    """For each image and class how many pixels are rightly of it, predicted so, and truly so.

    Args:
        predicted, truth: [B, H, W], classes as whole numbers.
        classes: their number C; truth may hold classes that are never predicted.
        ignored: pixels of this truth count nowhere.

    Returns int64 [B, C, 3]. Sums over images are counts of all their pixels together.
    """
    known = (truth != ignored).flatten(1)  # [B, P]
    image = torch.arange(len(truth), device=truth.device)[:, None] * classes
    said, true = (part.flatten(1).long() + image for part in (predicted, truth))

    def counted(places: Tensor) -> Tensor:
        return torch.bincount(places, minlength=len(truth) * classes).view(len(truth), classes)

    right = known & (said == true)
    return torch.stack([counted(true[right]), counted(said[known]), counted(true[known])], 2)


def class_iou(counted: Tensor) -> Tensor:
    """Intersection over union of each class [C] float64, over all images of counts [B, C, 3] together; not a
    number for classes that are neither there nor predicted."""
    right, said, true = counted.sum(0).double().unbind(1)
    return right / (said + true - right)


def mean_iou(counted: Tensor) -> float:
    """The mean of `class_iou` over the classes that are there or predicted, in [0, 1] (mIoU)."""
    return float(class_iou(counted).nanmean())


def pixel_accuracy(counted: Tensor) -> float:
    """The share of all pixels of counts [B, C, 3] that is told rightly."""
    right, _, true = counted.sum((0, 1)).double().unbind(0)
    return float(right / true)
