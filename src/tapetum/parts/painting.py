"""Pictures of what was hidden and of what was painted in its place."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.parts.predictors import patchify

GREY = 0.5


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """The opposite of patchify: [B, N, C * patch * patch] -> pixels [B, C, S, S] of a square image."""
    side = patch * round(patches.shape[1] ** 0.5)
    return F.fold(patches.mT, side, patch, stride=patch)


def painting(x: Tensor, patches: Tensor, hide: Tensor, patch: int) -> dict[str, Tensor]:
    """Pixels x [B, C, S, S] in [0, 1] beside what was shown of them and what was painted.

    patches [B, N, C * patch * patch] are what was painted; of these, only the hidden ones (hide [B, N] bool)
    are taken.
    """
    own, hide = patchify(x, patch), hide[..., None]
    painted = unpatchify(torch.where(hide, patches.to(own), own), patch)
    return {
        "image": x,
        "shown": unpatchify(torch.where(hide, GREY, own), patch),
        "painted": painted.clamp(0, 1),
    }
