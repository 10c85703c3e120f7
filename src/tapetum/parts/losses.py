"""Loss functions: tensors in, one number out, no state. B images, D dimensions, K classes."""

from collections.abc import Callable, Sequence
from functools import wraps

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base.distributed import gather, rows


def precise(loss: Callable) -> Callable:
    """Compute a loss outside autocast, in float32 or, where one of the tensors is wider, in float64."""

    @wraps(loss)
    def wide(*args, **kwargs):
        floats = [a for a in args if isinstance(a, Tensor) and a.is_floating_point()]
        dtype = torch.float64 if any(a.dtype == torch.float64 for a in floats) else torch.float32
        widened = [a.to(dtype) if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
        with torch.autocast(floats[0].device.type, enabled=False):
            return loss(*widened, **kwargs)

    return wide


@precise
def nt_xent(z: Tensor, ids: Tensor, temperature: float, targets: Tensor | None = None) -> Tensor:
    """Rows of z [N, D] with equal ids [N] attract and all others repel, over all processes.

    With ids that number the images this is NT-Xent (arXiv:2002.05709), with labels SupCon (arXiv:2004.11362,
    L_out). A row without a partner gives nothing. With `targets` [N, D] rows of z meet those, all but
    their own.
    """
    z = F.normalize(z, dim=1)
    met = z if targets is None else F.normalize(targets, dim=1)
    others, other_ids = gather(met), gather(ids)  # [W*N, D], [W*N]
    myself = rows(z)[:, None] == torch.arange(len(others), device=z.device)  # [N, W*N]
    logp = (z @ others.T / temperature).masked_fill(myself, -torch.inf).log_softmax(1)
    partners = (ids[:, None] == other_ids) & ~myself
    return -(logp.masked_fill(~partners, 0).sum(1) / partners.sum(1).clamp(min=1)).mean()


@precise
def cosine_distance(p: Tensor, z: Tensor) -> Tensor:
    """2 - 2 cos between rows of p and z [B, D]: the squared distance of unit vectors (arXiv:2006.07733)."""
    return 2 - 2 * F.cosine_similarity(p, z, dim=-1).mean()


@precise
def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits [B, K] against probabilities [B, K]."""
    return -(target * logits.log_softmax(-1)).sum(-1).mean()


@precise
def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean squared difference of two tensors of one shape."""
    return F.mse_loss(prediction, target)


@precise
def over_hidden(error: Callable[..., Tensor], said: Tensor, target: Tensor, hide: Tensor) -> Tensor:
    """The mean over images of the mean error at an image's hidden patches, however many each has.

    said [R, ...] and target [R, ...] stand in the order in which x[hide] gives them, hide [B, N] bool;
    error(said, target, reduction="none") gives [R] or [R, D].
    """
    errors = error(said, target, reduction="none")
    errors = errors.mean(-1) if errors.ndim > 1 else errors  # [R]
    shares = hide.to(errors) / hide.sum(1, keepdim=True).clamp(min=1)
    return (errors * shares[hide]).sum() / len(hide)


def across(
    loss: Callable[[Tensor, Tensor], Tensor], views: Sequence[Tensor], targets: Sequence[Tensor]
) -> Tensor:
    """The mean of loss(view, target) over all pairs of different views; targets are of the first views."""
    pairs = [loss(v, c) for i, c in enumerate(targets) for j, v in enumerate(views) if i != j]
    return torch.stack(pairs).mean()
