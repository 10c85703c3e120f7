"""Linear segmentation: the class of each pixel by a 1x1 convolution on feature maps, enlarged bilinearly."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base import random
from tapetum.base.settings import Count, Whole
from tapetum.data.masks import IGNORED
from tapetum.evaluate.case import Case
from tapetum.evaluate.dense import Annotated, dense, results
from tapetum.evaluate.protocols.logistic import FOLDS, scale
from tapetum.evaluate.result import Result
from tapetum.evaluate.split import folds
from tapetum.measure.logistic import logistic_path

VERSION = 1
LABELS = False
SPLITS = "none"
NEEDS = "maps"
OF_A_PATCH = 4  # pixels, as many as tell something new
STEPS = 50
PENALTIES = (1.0, 0.1, 1e-2, 1e-3, 1e-4)


def protocol(
    case: Case,
    *,
    masks: str = "",
    ignored: Whole = IGNORED,
    pixels: Count = 20_000,
    penalties: tuple[float, ...] = PENALTIES,
) -> list[Result]:
    """A pixel's logits are those of the convolution, enlarged bilinearly; as both are linear, they are those
    of the enlarged features, and the convolution is a logistic regression on the features at pixels. It is
    learnt from pixels drawn from all training images alike, with the penalty that has the lowest
    cross-entropy on pixels of a fifth of them. mIoU and pixel accuracy go over all pixels of the test images
    as the encoder gets them.

    Args:
        masks: a folder or archive with mask images, or with text files of boxes or polygons (YOLO), that are
            called as the images are; see data.masks.Masks.
        ignored: a class that counts nowhere, beside 255.
        pixels: how many are learnt from, all images together, but no more than 4 for each patch.
        penalties: those that are tried, on the mean squared weight.
    """
    found = dense(case, masks, ignored)
    x, y, image = sampled(found.train, pixels, case.seed)
    penalty = choose(x, y, image, found.known, sorted(penalties, reverse=True), case.seed)
    weight, bias = next(regression(x, y, found.known, [penalty]))

    def answer(maps: Tensor) -> Tensor:
        return F.conv2d(maps, weight[:, :, None, None], bias)

    head = {"pixels": pixels, "penalties": sorted(penalties, reverse=True), "folds": FOLDS, "steps": STEPS}
    return results(case, "segment", VERSION, found, answer, head=head, details={"penalty": penalty})


def sampled(part: Annotated, most: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features [P, D], classes [P] and image numbers [P] of pixels, about as many from each image."""
    side = part.classes.shape[-1]
    each = max(1, min(most // len(part), OF_A_PATCH * int(np.prod(part.x.shape[2:]))))
    features, classes, images = [], [], []
    for at in range(len(part)):
        known = torch.nonzero(part.classes[at].flatten() != IGNORED)[:, 0]
        u = random.uniform(seed, 0, known + at * side**2, "pixels")
        chosen = known[u.argsort()[:each]]
        place = torch.stack([chosen % side, chosen // side], 1) + 0.5  # x before y
        grid = (2 * place / side - 1).view(1, 1, -1, 2)
        maps = part.maps(np.array([at]))
        values = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
        features.append(values[0, :, 0].T)
        classes.append(part.classes[at].flatten()[chosen].long())
        images.append(torch.full((len(chosen),), at))
    return torch.cat(features), torch.cat(classes), torch.cat(images)


def regression(
    x: Tensor, y: Tensor, width: int, penalties: Sequence[float]
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each of the falling penalties weights [C, D] and biases [C] for features as they are, x [P, D] and
    y [P]; inside they are standardised. After 50 steps the cross-entropy is within 1 % of its least."""
    mean, std = scale(x)
    for weight, bias in logistic_path((x - mean) / std, y, width, penalties, STEPS):
        weight = (weight / std).float()
        yield weight, bias.float() - weight @ mean


def choose(x: Tensor, y: Tensor, image: Tensor, width: int, penalties: list[float], seed: int) -> float:
    """The first of the falling `penalties` after which the cross-entropy on held-out images' pixels rises."""
    fold = torch.from_numpy(folds(np.zeros(int(image.max()) + 1, dtype=np.int64), FOLDS, seed))
    out = fold[image] == 0
    if len(penalties) == 1 or not out.any() or out.all():
        return penalties[0]
    best, chosen = torch.inf, penalties[0]
    for penalty, (weight, bias) in zip(penalties, regression(x[~out], y[~out], width, penalties)):
        if (loss := float(F.cross_entropy(F.linear(x[out], weight, bias), y[out]))) > best:
            break
        best, chosen = loss, penalty
    return chosen
