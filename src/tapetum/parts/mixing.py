"""Mixing images and their labels, inside a loss because it makes labels."""

import torch
from torch import Tensor


def partner(x: Tensor) -> Tensor:
    """Each row's neighbour in its pair (0-1, 2-3, ...), so that mixing is the same however a batch is split.

    The last row of an odd number is its own partner.
    """
    at = torch.arange(len(x), device=x.device)
    return x[torch.minimum(at ^ 1, at.new_tensor(len(x) - 1))]


def beta(u: Tensor, alpha: float) -> Tensor:
    """Uniform numbers [B, 2 * ROUNDS] -> Beta(alpha, alpha) [B] by Joehnk's rejection, 0 < alpha <= 1.

    Rounds in which none of the tries is accepted give 0.5, which for alpha <= 1 happens less than once in
    3,000 with 12 rounds.
    """
    a, b = (u.double().clamp(min=1e-12).log() / alpha).exp().chunk(2, 1)  # [B, ROUNDS]; pow's bits vary
    ok = (a + b <= 1) & (a + b > 0)
    first = ok.float().argmax(1, keepdim=True)
    a, b = a.gather(1, first)[:, 0], b.gather(1, first)[:, 0]
    return torch.where(ok.any(1), a / (a + b), 0.5).to(u.dtype)


def mixup(x: Tensor, share: Tensor) -> Tensor:
    """Each image [B, C, H, W] with its share [B], its partner with the rest (arXiv:1710.09412)."""
    share = share[:, None, None, None]
    return share * x + (1 - share) * partner(x)


def cutmix(x: Tensor, share: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """A box of 1 - share [B] of the area comes from the partner, centred at place [B, 2] in [0, 1).

    Returns the images and the share that is left after the box is cut at the border (arXiv:1905.04899).
    """
    side = x.shape[-1]
    half = (1 - share).sqrt()[:, None] * side / 2
    low, high = (place * side - half).round().clamp(0, side), (place * side + half).round().clamp(0, side)
    at = torch.arange(side, device=x.device)
    inside = (at >= low[..., None]) & (at < high[..., None])  # [B, 2, S]
    box = inside[:, 0, :, None] & inside[:, 1, None, :]  # [B, S, S]
    return torch.where(box[:, None], partner(x), x), 1 - box.float().mean((1, 2))
