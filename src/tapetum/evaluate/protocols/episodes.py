"""Few-shot episodes: n classes, k images of each to learn from and a few to answer for, hundreds of times."""

from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Positive
from tapetum.evaluate.case import Case
from tapetum.evaluate.result import Result
from tapetum.evaluate.targets import labelled
from tapetum.measure import fewshot

VERSION = 1
SPLITS = "none"
_CELLS = 2**25  # numbers of the episodes at once: 128 MB


def protocol(
    case: Case,
    *,
    ways: Annotated[int, 2, 10000] = 5,
    shots: tuple[Count, ...] = (1, 5),
    queries: Count = 15,
    episodes: Annotated[int, 2, 1000000] = 600,
    head: Literal["mean", "logistic"] = "mean",
    centre: bool = True,
    cost: Positive = 1.0,
) -> list[Result]:
    """Episodes are drawn from the test images. Features lose the mean of the training images and are given
    the length 1; then the class with the nearest mean wins (SimpleShot, Wang et al. 2019, arXiv:1911.04623).

    Args:
        ways: classes an episode.
        shots: images of each class to learn from; a number for each of these.
        queries: images of each class to answer for.
        episodes: how many; the value is the mean of their accuracies.
        head: "mean", or "logistic" for a regression in each episode.
        centre: subtract the mean of the training images (of all images, where none are apart for training).
        cost: of a wrong answer in the regression, against its squared weights (scikit-learn's C).
    """
    if case.kind != "class":
        raise TapetumError(
            f"episodes need one class an image; labels of the kind {case.kind!r} are not that."
        )
    data = labelled(case.test, case.test, case.kind)
    x = data.queries
    if centre:
        x = x - torch.from_numpy(case.train.x[case.train.there].mean(0))
    x = F.normalize(x, dim=1)
    same: dict[str, Any] = {"ways": ways, "queries": queries, "episodes": episodes, "classifier": head}
    same |= {"centred": centre} | ({"cost": cost} if head == "logistic" else {})
    found = []
    for shot in shots:
        rows = _drawn(case, data.truth, ways, shot + queries, episodes)
        each = _accuracies(x, rows, shot, head, cost)
        facts: dict[str, Any] = {"head": same | {"shots": shot}, "label": f"{ways}-way {shot}-shot accuracy"}
        facts |= {"error_kind": "standard error over episodes", "n": episodes}
        facts |= {"notes": data.notes[-1:]}  # both parts are the test images here
        error = float(each.std()) / episodes**0.5
        found.append(case.measured("episodes", VERSION, "accuracy", float(each.mean()), error, **facts))
    return found


def _drawn(case: Case, labels: Tensor, ways: int, images: int, episodes: int) -> Tensor:
    try:
        return fewshot.episodes(labels, ways, images, episodes, case.seed)
    except ValueError as error:
        raise TapetumError(
            f"no episodes of {case.test.source.name}: {error}; choose fewer ways, shots or queries."
        ) from None


def _accuracies(x: Tensor, rows: Tensor, shots: int, head: str, cost: float) -> Tensor:
    """Of each episode, float64 [E]; `rows` [E, ways, images] of x [N, D]."""
    ways, images = rows.shape[1:]
    truth = torch.arange(ways).repeat_interleave(images - shots)
    found = []
    for part in rows.split(max(1, _CELLS // (ways * images * x.shape[1]))):
        support, queries = x[part[:, :, :shots]], x[part[:, :, shots:]].flatten(1, 2)
        answers = (
            fewshot.logistic(support, queries, cost)
            if head == "logistic"
            else fewshot.nearest_mean(support, queries)
        )
        found.append((answers == truth).double().mean(1))
    return torch.cat(found)
