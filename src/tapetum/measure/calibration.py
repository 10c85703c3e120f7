"""Do probabilities mean what they say? Errors of confidences, proper scores, and a temperature that mends."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Bins = Literal["width", "mass"]


class Reliability(NamedTuple):
    """A reliability diagram, a number for each bin that has rows: float64 [B].

    rows: how many it has.
    confidence: their mean confidence.
    accuracy: the share of them that is right.
    """

    rows: Tensor
    confidence: Tensor
    accuracy: Tensor


def reliability(confidence: Tensor, right: Tensor, bins: int = 15, by: Bins = "width") -> Reliability:
    """Confidences [N] in [0, 1] and whether each answer is right [N], in bins.

    Bins are open below and closed above; of equal width in [0, 1], or, `by` "mass", between quantiles, so
    that each has about as many rows. Empty bins are left out.
    """
    confidence, right = confidence.double(), right.double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.double, device=confidence.device)
    if by == "mass":
        edges = confidence.quantile(edges)
    at = torch.bucketize(confidence.contiguous(), edges[1:-1])  # [N]
    count = torch.bincount(at, minlength=bins)
    sums = [torch.bincount(at, weights, minlength=bins)[count > 0] for weights in (confidence, right)]
    count = count[count > 0].double()
    return Reliability(count, sums[0] / count, sums[1] / count)


def expected_error(confidence: Tensor, right: Tensor, bins: int = 15, by: Bins = "width") -> float:
    """Expected calibration error: the mean over rows of |accuracy - confidence| of their bin, in [0, 1].

    See `reliability` for the arguments (Guo et al. 2017, arXiv:1706.04599; by mass: Nguyen, O'Connor 2015).
    """
    found = reliability(confidence, right, bins, by)
    return float((found.rows * (found.accuracy - found.confidence).abs()).sum() / found.rows.sum())


def maximum_error(confidence: Tensor, right: Tensor, bins: int = 15, by: Bins = "width") -> float:
    """The largest |accuracy - confidence| of a bin that has rows, in [0, 1]."""
    found = reliability(confidence, right, bins, by)
    return float((found.accuracy - found.confidence).abs().max())


def brier(logits: Tensor, labels: Tensor) -> Tensor:
    """For each row the squared distance of its probabilities to the truth, summed over classes, in [0, 2].

    logits [N, C], labels [N]; the Brier score (Brier 1950) is the mean of the result [N].
    """
    p = logits.double().softmax(1)
    truth = p.gather(1, labels[:, None]).squeeze(1)
    return p.square().sum(1) - 2 * truth + 1


def surprise(logits: Tensor, labels: Tensor) -> Tensor:
    """For each row - the log probability of its label, in nats [N]; the mean is the negative log-likelihood.

    logits [N, C], labels [N].
    """
    return -logits.double().log_softmax(1).gather(1, labels[:, None]).squeeze(1)


def temperature(logits: Tensor, labels: Tensor, least: float = 1e-2, most: float = 1e2) -> float:
    """The T in [least, most] for which softmax(logits / T) gives `labels` [N] the highest likelihood.

    logits [N, C] of rows that the classifier has not learnt from (Guo et al. 2017, arXiv:1706.04599). The
    loss is convex in 1 / T: Newton's steps on it, and halves of what is left where a step would leave it.
    """
    logits = logits.double()
    target = logits.gather(1, labels[:, None]).squeeze(1)

    def slopes(inverse: float) -> tuple[float, float]:
        """First and second derivative of the loss in the inverse temperature."""
        p = (inverse * logits).softmax(1)
        mean = (p * logits).sum(1)
        return float((mean - target).mean()), float((p * (logits - mean[:, None]).square()).sum(1).mean())

    low, high = 1 / most, 1 / least  # of the inverse temperature
    if slopes(high)[0] <= 0:
        return least
    if slopes(low)[0] >= 0:
        return most
    inverse = (low * high) ** 0.5
    for _ in range(100):
        slope, curvature = slopes(inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else low
        step = step if low < step < high else (low * high) ** 0.5
        if abs(step - inverse) <= 1e-12 * inverse:
            break
        inverse = step
    return 1 / inverse
