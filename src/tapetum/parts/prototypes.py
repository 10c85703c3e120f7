"""Guesses among learnt prototypes: the head that makes them, a teacher's centring, losses on them."""

import torch
from torch import Tensor, nn

from tapetum.base.distributed import mean
from tapetum.parts.heads import Prototypes, mlp
from tapetum.parts.losses import precise


def guesser(
    dim: int, hidden: int, bottleneck: int, prototypes: int, batch_norm: bool = False
) -> nn.Sequential:
    """DINO's head: [..., dim] -> cosine similarities [..., K] with the prototypes, its second part."""
    norm = nn.BatchNorm1d if batch_norm else None
    bottom = mlp(dim, hidden, hidden, bottleneck, norm=norm, act=nn.GELU)
    return nn.Sequential(bottom, Prototypes(bottleneck, prototypes))


def centred(scores: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Probabilities of scores [..., K] of which their centre [K], a running mean, is taken away."""
    return ((scores.to(centre) - centre) / temperature).softmax(-1)


@precise
def patch_cross_entropy(logits: Tensor, target: Tensor, hidden: Tensor) -> Tensor:
    """Cross-entropy of the hidden patches' logits [M, K] against probabilities [M, K]: an image's mean over
    its patches, then the mean over images. hidden [B, N] has M True; an image without any gives nothing."""
    each = -(target * logits.log_softmax(-1)).sum(-1)  # [M]
    share = 1 / hidden.sum(1).clamp(min=1).to(each)  # [B]
    return (each * share[hidden.nonzero()[:, 0]]).sum() / len(hidden)


@precise
def mean_entropy(logits: Tensor) -> Tensor:
    """The entropy of the mean guess, over logits [N, K] of all processes: at most ln K, when all prototypes
    are guessed as often."""
    return torch.special.entr(mean(logits.softmax(-1).mean(0))).sum()
