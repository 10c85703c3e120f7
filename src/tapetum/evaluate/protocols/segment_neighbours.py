"""Segmentation by nearest neighbours: patches take the classes of the training patches most like them."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base import random
from tapetum.base.settings import Count, Positive, Whole
from tapetum.data.masks import IGNORED
from tapetum.evaluate.case import Case
from tapetum.evaluate.dense import Annotated, dense, results
from tapetum.evaluate.result import Result
from tapetum.measure.knn import knn_average

VERSION = 1
LABELS = False
SPLITS = "none"
NEEDS = "maps"


def protocol(
    case: Case,
    *,
    masks: str = "",
    ignored: Whole = IGNORED,
    k: Count = 30,
    temperature: Positive = 0.02,
    memory: Count = 100_000,
) -> list[Result]:
    """Nothing is trained (Balazevic et al. 2023, arXiv:2306.01667): a memory holds features of training
    patches, each with the shares of the classes among its pixels. A test patch looks at the k nearest by
    cosine similarity s with the weights softmax(s / temperature) and takes the mean of their shares, which is
    enlarged bilinearly. mIoU and pixel accuracy go over all pixels of the test images as the encoder gets
    them.

    Args:
        masks: a folder or archive with mask images, or with text files of boxes or polygons (YOLO), that are
            called as the images are; see data.masks.Masks.
        ignored: a class that counts nowhere, beside 255.
        k: how many patches are looked at.
        temperature: how much more the nearer ones count.
        memory: most patches that are held, about as many from each image.
    """
    found = dense(case, masks, ignored)
    bank, shares = remembered(found.train, found.known, memory, case.seed)

    def answer(maps: Tensor) -> Tensor:
        queries = maps.movedim(1, 3)  # [b, h, w, D]
        looked = knn_average(bank, shares, queries.flatten(0, 2), k, temperature)
        return looked.view(*queries.shape[:3], -1).movedim(3, 1)

    head = {"k": k, "temperature": temperature, "memory": memory}
    return results(case, "segment_neighbours", VERSION, found, answer, head=head)


def remembered(part: Annotated, known: int, most: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features [M, D] of patches and the shares of the classes in each [M, C]; those without a pixel of a
    known class are left out."""
    each = max(1, most // len(part))
    features, shares = [], []
    for at in range(len(part)):
        maps = part.maps(np.array([at]))[0]  # [D, h, w]
        pixels = F.one_hot(part.classes[at].long().clamp(max=known), known + 1).movedim(2, 0).float()
        share = (
            F.adaptive_avg_pool2d(pixels, (maps.shape[1], maps.shape[2])).flatten(1).T[:, :known]
        )  # [h w, C]
        there = torch.nonzero(share.sum(1) > 0)[:, 0]
        u = random.uniform(seed, 0, there + at * maps[0].numel(), "memory")
        chosen = there[u.argsort()[:each]].sort().values
        features.append(maps.flatten(1).T[chosen])
        shares.append(share[chosen] / share[chosen].sum(1, keepdim=True))
    return torch.cat(features), torch.cat(shares)
