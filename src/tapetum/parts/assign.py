"""Balanced assignment: every class gets its share of the images."""

import math

import torch
from torch import Tensor

from tapetum.base.distributed import gather
from tapetum.parts.losses import precise


@torch.no_grad()
@precise
def sinkhorn(scores: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Scores [B, K] -> probabilities [B, K] under which, over all processes, every class is as likely.

    Sinkhorn and Knopp's alternating normalisation of exp(scores / temperature), in logarithms so that nothing
    underflows (arXiv:1306.0895; as in arXiv:2006.09882).
    """
    logp = scores / temperature
    for _ in range(iterations):
        logp -= gather(logp.logsumexp(0)[None]).logsumexp(0)
        logp = logp.log_softmax(1)
    return logp.exp()


@torch.no_grad()
@precise
def equal_partition(logp: Tensor, sharpness: float, tolerance: float = 0.05, iterations: int = 500) -> Tensor:
    """Log-probabilities [N, K] of all images -> probabilities Q [N, K] that give each label N / K images.

    Q maximises sum(Q * logp) plus its entropy over `sharpness` (lambda, arXiv:1911.05371), by Sinkhorn's
    alternation on all rows at once; every process has all of them. It ends when each label's share is right
    to `tolerance`.
    """
    logq = logp * sharpness
    for _ in range(iterations):
        logq = logq.log_softmax(1)
        excess = logq.logsumexp(0) + math.log(logq.shape[1] / len(logq))
        if float(excess.abs().max()) < tolerance:
            break
        logq -= excess
    return logq.softmax(1)
