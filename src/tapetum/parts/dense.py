"""Features at every position of a map: heads on them, where they lie in the image, segments, contrast."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tapetum.base.distributed import gather, rows
from tapetum.encoders.encoder import Encoder
from tapetum.parts.losses import precise
from tapetum.parts.masks import take
from tapetum.parts.superpixels import superpixels
from tapetum.views import Batch, carry
from tapetum.views.sample import Bent

FINE = 4  # cells of a segment's outline to a position of the map, each way


def columns(maps: Tensor) -> Tensor:
    """Maps [B, D, H, W] -> the vectors at their positions, row by row [B, H*W, D]."""
    return maps.flatten(2).mT


# ---- networks ----


def convs(*widths: int, norm: Callable[[int], nn.Module] | None = nn.BatchNorm2d) -> nn.Sequential:
    """Convolutions of one pixel with norm and ReLU between them: an mlp at every position."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths[:-1]):
        layers += [nn.Conv2d(a, b, 1, bias=norm is None), *([norm(b)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-2], widths[-1], 1))


class Maps(nn.Module):
    """An encoder that says its maps [B, D, H, W], as a link of a chain."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.maps(x)


class TwoHeads(nn.Module):
    """Maps [B, D, H, W] -> their own columns [B, N, D], what `whole` says of their mean [B, E], and what
    `dense` says at every position [B, N, E]."""

    def __init__(self, whole: nn.Module, dense: nn.Module):
        super().__init__()
        self.whole, self.dense = whole, dense

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return columns(maps), self.whole(maps.mean((2, 3))), columns(self.dense(maps))


class PixelPropagation(nn.Module):
    """Each position becomes a sum over all, weighted by the similarity to the power of `sharpness`
    (arXiv:2011.10043): columns [B, N, D] -> [B, N, D]."""

    def __init__(self, dim: int, sharpness: float):
        super().__init__()
        self.transform = nn.Linear(dim, dim)
        self.sharpness = sharpness

    def forward(self, x: Tensor) -> Tensor:
        unit = F.normalize(x, dim=2)
        return (unit @ unit.mT).clamp(min=0).pow(self.sharpness) @ self.transform(x)


class SpatialAdaptor(nn.Module):
    """What an encoder makes of its pooled features, made at each position instead: [B, D, H, W]. A position
    is a map of one pixel, whose mean is itself, so the head stays as it was learnt (arXiv:2211.00218)."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        maps = self.encoder.maps(x)
        head = getattr(self.encoder.net, "forward_head", None)
        if head is None or self.encoder.patch:  # tokens have gone through the last norm already
            return maps
        position = columns(maps).flatten(0, 1)[:, :, None, None]  # [B*N, D, 1, 1]
        if getattr(self.encoder.net, "output_fmt", "NCHW") == "NHWC":
            position = position.movedim(1, -1)
        said = head(position, pre_logits=True)
        return said.view(len(maps), *maps.shape[2:], -1).movedim(-1, 1)


class SelfAttention(nn.Module):
    """Maps [B, D, H, W], to which is added what all their positions say to each other in several heads."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, maps: Tensor) -> Tensor:
        x = columns(maps)
        return maps + self.attention(x, x, x, need_weights=False)[0].mT.unflatten(2, maps.shape[2:])


# ---- which position belongs to which ----


@torch.no_grad()
def most_similar(a: Tensor, b: Tensor) -> Tensor:
    """For each column of a [B, N, D] the place [B, N] of that of b [B, M, D] with the largest cosine."""
    return (F.normalize(a, dim=2) @ F.normalize(b, dim=2).mT).argmax(2)


def distances(first: Tensor | Bent, second: Tensor | Bent, side: int) -> Tensor:
    """How far each position of one view's map of side x side lies in the image from each of another's:
    [B, N, N], in diagonals of a position of the larger view.

    The image is taken as the square into which it was squashed.
    """
    here, there = (columns(carry.places(geometry, side)) for geometry in (first, second))  # [B, N, 2]
    diagonal = torch.maximum(_diagonal(first), _diagonal(second)) / side  # [B]
    gap = torch.cdist(here, there, compute_mode="donot_use_mm_for_euclid_dist")
    return gap / diagonal[:, None, None]


def _diagonal(geometry: Tensor | Bent) -> Tensor:
    """The length [B] of a view's diagonal in the image."""
    corners = carry.places(geometry, 2)  # the middles of the view's quarters
    return 2 * (corners[:, :, 1, 1] - corners[:, :, 0, 0]).norm(dim=1)


def regions(batch: Batch, cells: int) -> Tensor:
    """The segments [B, H, W] of whole images, numbered below cells**2: superpixels where the batch has the
    view "whole", else the cells of a regular grid."""
    if "whole" in batch:
        return superpixels(batch["whole"], cells)
    index = batch["index"]
    return torch.arange(cells**2, device=index.device).view(1, cells, cells).expand(len(index), -1, -1)


def segments(masks: Tensor, count: int, geometry: Tensor | Bent, side: int) -> Tensor:
    """How much of each position of a view's map belongs to each segment: [B, count, side, side] in [0, 1].

    Args:
        masks: [B, H, W] int64 over the whole images: the number of the segment, -1 for none.
        count: of segments.
        geometry: of the view.
        side: of the map.
    """
    there = carry.masks(masks, geometry, FINE * side, outside=-1)
    shares = F.one_hot(there + 1, count + 1)[..., 1:].movedim(-1, 1)
    return F.avg_pool2d(shares.float(), FINE)


def drawn(shares: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Some of the segments that a view shows, with replacement, each as likely: their numbers [B, M] and
    their shares [B, M, H, W], of `segments` [B, K, H, W], chosen by u [B, M] in [0, 1)."""
    there = shares.sum((2, 3)) > 0  # [B, K]
    order = there.int().argsort(dim=1, descending=True, stable=True)
    ids = order.gather(1, (u * there.sum(1, keepdim=True)).long())
    return ids, take(shares.flatten(2), ids).unflatten(2, shares.shape[2:])


def shown(batch: Batch, maps: Sequence[Tensor], cells: int, samples: int) -> list[tuple[Tensor, Tensor]]:
    """Some of the segments that each of the "views" shows, whose maps these are: numbers [B, M] and shares
    [B, M, H, W]. Segments are `regions`; `samples` is M."""
    masks = regions(batch, cells)
    return [
        drawn(segments(masks, cells**2, geometry, m.shape[-1]), batch.random(f"segments{i}", (samples,)))
        for i, (m, geometry) in enumerate(zip(maps, batch.geometry["views"]))
    ]


@precise
def pooled(maps: Tensor, shares: Tensor) -> Tensor:
    """The mean of maps [B, D, H, W] over segments with these shares [B, M, H, W]: [B * M, D]."""
    total = shares.flatten(2) @ columns(maps)  # [B, M, D]
    return (total / shares.sum((2, 3))[..., None].clamp(min=1e-6)).flatten(0, 1)


# ---- losses ----


@precise
def agreement(said: Tensor, target: Tensor, near: Tensor) -> Tensor:
    """The mean cosine of the pairs of columns [B, N, D], [B, N, D] that are near [B, N, N], averaged over
    images; an image without such a pair counts 0 (as in PixPro's code)."""
    cosine = F.normalize(said, dim=2) @ F.normalize(target, dim=2).mT
    return ((cosine * near).sum((1, 2)) / near.sum((1, 2)).clamp(min=1)).mean()


@precise
def segment_contrast(
    said: Tensor, other: Tensor, own: Tensor, ids: Tensor, other_ids: Tensor, temperature: float
) -> Tensor:
    """DetCon's loss of one view (arXiv:2103.10957, equation 3, as its code weighs it): what is said of a
    segment finds the same segment of the other view among all segments of all images in both views.

    Args:
        said: [B, M, D] of this view's drawn segments.
        other, own: [B, M, D], the targets of the other and of this view.
        ids, other_ids: [B, M] int64, which segments these are. One drawn several times counts once, one that
            the other view lacks counts nothing; the mean is over all that were drawn.
    """
    image = rows(said)
    mine, theirs = ((ids + (image[:, None] << 20)).flatten() for ids in (ids, other_ids))
    said, other, own = (F.normalize(x, dim=2).flatten(0, 1) for x in (said, other, own))  # [BM, D]
    myself = mine[:, None] == gather(mine)  # [BM, WBM]
    across = said @ gather(other).T / temperature
    within = (said @ gather(own).T / temperature).masked_fill(myself, -torch.inf)
    logp = torch.cat([across, within], 1).log_softmax(1)[:, : across.shape[1]]
    right = mine[:, None] == gather(theirs)
    found = logp.masked_fill(~right, 0).sum(1) / right.sum(1).clamp(min=1)
    return -(found / myself.sum(1)).mean()


def both_ways(
    said: Sequence[Tensor], target: Sequence[Tensor], ids: Sequence[Tensor], temperature: float
) -> Tensor:
    """The sum of both views' `segment_contrast`: what is said and the targets of two views [B * M, D], and
    which segments these are [B, M]."""
    said, target = ([x.unflatten(0, i.shape) for x, i in zip(side, ids)] for side in (said, target))
    first = segment_contrast(said[0], target[1], target[0], ids[0], ids[1], temperature)
    return first + segment_contrast(said[1], target[0], target[1], ids[1], ids[0], temperature)
