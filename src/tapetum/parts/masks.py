"""Which patches are shown and which are hidden, as indices into the raster of N patches."""

from torch import Tensor


def split(scores: Tensor, hidden: float) -> tuple[Tensor, Tensor]:
    """Random scores [B, N] -> (keep [B, N-M], hide [B, M]) with M = int(hidden * N), each image its own."""
    order = scores.argsort(1)
    m = int(hidden * scores.shape[1])
    return order[:, m:], order[:, :m]


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """tokens [B, N, D], index [B, K] -> [B, K, D]"""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def masked_mean(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean over images of the mean of an image's values [B, N] at its chosen places [B, N]."""
    return ((values * chosen).sum(1) / chosen.sum(1).clamp(min=1)).mean()


def some(scores: Tensor, share: float) -> Tensor:
    """The places [B, M] of a share of random scores [B, N], each image its own; at least one, but not all."""
    n = scores.shape[1]
    return scores.argsort(1)[:, : min(max(int(share * n), 1), n - 1)]
