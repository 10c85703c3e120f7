"""Balanced assignment: every class gets its share of the images."""

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
        logp = logp - gather(logp.logsumexp(0)[None]).logsumexp(0)
        logp = logp.log_softmax(1)
    return logp.exp()
