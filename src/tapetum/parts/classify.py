"""Telling classes apart: the loss, and how often the guess is right."""

from torch import Tensor
from torch.nn import functional as F

from tapetum.parts.losses import precise


@precise
def classified(logits: Tensor, label: Tensor, smoothing: float = 0.0) -> dict[str, Tensor]:
    """{"loss": cross-entropy of logits [N, K] with labels [N], "accuracy": share of right guesses}.

    `smoothing` is the share of the target that is spread over all classes (arXiv:1512.00567).
    """
    return {
        "loss": F.cross_entropy(logits, label, label_smoothing=smoothing),
        "accuracy": (logits.argmax(1) == label).float().mean(),
    }
