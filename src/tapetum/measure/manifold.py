"""How features move when an image is altered more and more: far, and in even steps?

Van der Merwe, Newman and Barnard 2022, "Manifold Characteristics That Predict Downstream Task Performance",
arXiv:2205.07477: large steps of even size go with good features.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def steps(path: Tensor) -> Tensor:
    """The lengths [N, T] of the steps between the T + 1 places of each of N paths [N, T + 1, D] on the unit
    sphere, where features of encoders of different scale can be compared; each in [0, 2]."""
    path = F.normalize(path.double(), dim=2)
    return path.diff(dim=1).norm(dim=2)


def moved(lengths: Tensor) -> Tensor:
    """The whole distance [N] of steps [N, T], in [0, 2 T]."""
    return lengths.sum(1)


def unsteadiness(lengths: Tensor) -> Tensor:
    """The mean change from one step to the next over the mean step: [N] of steps [N, T], T >= 2.

    0 means even steps; a path that does all at once comes to T / (T - 1) or, in its middle, twice that. 0
    where nothing moved.
    """
    mean = lengths.mean(1)
    return torch.where(mean > 0, lengths.diff(dim=1).abs().mean(1) / mean, 0.0)


def rmqm(lengths: Tensor) -> Tensor:
    """The representation manifold quality of each of N images: moved / (1 + unsteadiness), [N].

    It grows with the distance and falls with the unsteadiness of `steps` [N, T], as the paper's number does;
    the form in which the two are joined is ours.
    """
    return moved(lengths) / (1 + unsteadiness(lengths))


def pgd(
    encoder: Callable[[Tensor], Tensor],
    images: Tensor,
    epsilon: float,
    noise: Tensor,
    rounds: int = 5,
) -> Tensor:
    """Images [B, C, H, W] in [0, 1], changed by at most `epsilon` a pixel so that their features move far.

    Projected gradient ascent (Madry et al. 2018, arXiv:1706.06083) on the squared distance of normalised
    features, from a random start: `noise`, in [-1, 1], of the shape of `images`.
    """
    with torch.no_grad():
        clean = F.normalize(encoder(images), dim=1)
    changed = (images + epsilon * noise).clamp(0, 1)
    for _ in range(rounds):
        changed = changed.detach().requires_grad_()
        with torch.enable_grad():
            far = (F.normalize(encoder(changed), dim=1) - clean).square().sum()
            (slope,) = torch.autograd.grad(far, changed)
        changed = changed.detach() + 2.5 * epsilon / rounds * slope.sign()
        changed = torch.minimum(torch.maximum(changed, images - epsilon), images + epsilon).clamp(0, 1)
    return changed.detach()
