"""Carries masks, points and boxes from images into their views, through a view's geometry."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.views.sample import Bent, centres, lookup, project


def places(geometry: Tensor | Bent, side: int) -> Tensor:
    """Where in the image the cells of a side x side grid over the view come from: [B, 2, side, side], x
    before y, in [0, 1] where they lie inside."""
    transforms, field = geometry if isinstance(geometry, Bent) else (geometry, None)
    at = centres(side, transforms.device)[None]
    if field is not None:
        at = at + F.interpolate(field, (side, side), mode="bilinear", align_corners=False)
    return project(transforms, at)[0]


def masks(
    masks: Tensor, geometry: Tensor | Bent, side: int, outside: int | Literal["mirror", "edge"] = 0
) -> Tensor:
    """Masks [B, H, W] or [B, M, H, W] of any type, over whole images, in views of `side` pixels, by the
    nearest pixel. `outside` is what stands beyond the image: a number, or "mirror" or "edge" as in the view
    itself."""
    there = places(geometry, side).to(masks.device)
    lines, inside = [], torch.ones_like(there[:, 0], dtype=torch.bool)
    for share, count in zip(there.unbind(1), (masks.shape[-1], masks.shape[-2])):
        pixel = (share * count).floor().long()  # [B, S, S]
        inside &= (pixel >= 0) & (pixel < count)
        if outside == "mirror" and count > 1:
            pixel = pixel % (2 * count - 2)
            pixel = torch.minimum(pixel, 2 * count - 2 - pixel)
        lines.append(pixel.clamp(0, count - 1))
    rows = torch.arange(len(masks), device=masks.device)[:, None, None]
    found = masks[rows, ..., lines[1], lines[0]]  # [B, S, S] or [B, S, S, M]
    found = found if masks.ndim == 3 else found.movedim(-1, 1)
    if outside in ("mirror", "edge"):
        return found
    empty = outside if isinstance(outside, int) else 0
    return found.where(inside if masks.ndim == 3 else inside[:, None], torch.full_like(found, empty))


def points(points: Tensor, geometry: Tensor | Bent) -> tuple[Tensor, Tensor]:
    """Points [B, N, 2] of images, x before y in [0, 1], in views, and whether [B, N] they are to be seen
    there.

    A bent view is followed back by iteration, which ends within a hundredth of a pixel where it does not
    fold.
    """
    transforms, field = geometry if isinstance(geometry, Bent) else (geometry, None)
    back = torch.linalg.inv(transforms.double())
    back = (back / back[:, 2:, 2:]).to(points)
    there = project(back, points.mT)[0]  # [B, 2, N]
    if field is not None:
        straight, field = there, field.to(there)
        for _ in range(30):
            moved = lookup(field, (there * field.shape[-1] - 0.5)[:, :, None], "edge")[:, :, 0]
            there = straight - moved
    there = there.mT
    return there, ((there >= 0) & (there <= 1)).all(2)


def boxes(boxes: Tensor, geometry: Tensor | Bent) -> tuple[Tensor, Tensor]:
    """Boxes [B, N, 4] of images (left, top, right, bottom, in [0, 1]) in views: the upright box around each
    as the view shows it, cut at the view's border, and the share [B, N] of its area that is left."""
    line = torch.linspace(0, 1, 9, device=boxes.device)
    zero, one = torch.zeros_like(line), torch.ones_like(line)
    x, y = torch.cat([line, line, zero, one]), torch.cat([zero, one, line, line])  # around a unit square
    low, high = boxes[..., None, :2], boxes[..., None, 2:]
    border = low + (high - low) * torch.stack([x, y], 1).to(boxes)  # [B, N, 36, 2]
    there = points(border.flatten(1, 2), geometry)[0].view_as(border)
    whole = torch.cat([there.amin(2), there.amax(2)], 2)
    cut = whole.clamp(0, 1)
    area, left = ((b[..., 2:] - b[..., :2]).prod(2) for b in (whole, cut))
    return cut, left / area.clamp(min=1e-12)
