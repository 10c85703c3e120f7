"""The weighted nearest-neighbour vote: how well neighbours in feature space share a label."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

_CELLS = 2**24  # similarities held at once: 64 MB


@torch.no_grad()
def knn_scores(
    bank: Tensor,
    labels: Tensor,
    queries: Tensor,
    k: int = 20,
    temperature: float = 0.07,
    *,
    classes: int | None = None,
    leave_one_out: bool = False,
) -> Tensor:
    """Each query's share of votes for each class [M, C]; rows sum to 1.

    The k nearest rows of `bank` [N, D] by cosine similarity s vote for their `labels` [N] with weight
    exp(s / temperature) (Wu et al. 2018, arXiv:1805.01978). Rows labelled -1 do not vote; fewer than k voters
    all vote. With `leave_one_out`, `queries` [M, D] are the bank's first M rows and none votes for itself.
    Queries are taken in portions, so memory does not grow with their number.
    """
    classes = classes or int(labels.max()) + 1
    votes = torch.zeros(len(queries), classes, device=bank.device)
    silent, votes_for = labels < 0, labels.clamp(min=0)
    for rows, near, index in _nearest(bank, queries, k, silent, leave_one_out):
        votes[rows].scatter_add_(1, votes_for[index], _weights(near, temperature))
    return votes


@torch.no_grad()
def knn_average(
    bank: Tensor, said: Tensor, queries: Tensor, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """The mean [M, W] of what the k nearest rows of `bank` [N, D] say [N, W], weighted as in `knn_scores`."""
    out = torch.empty(len(queries), said.shape[1], device=bank.device)
    silent = torch.zeros(len(bank), dtype=torch.bool, device=bank.device)
    for rows, near, index in _nearest(bank, queries, k, silent, False):
        out[rows] = (_weights(near, temperature)[:, None] @ said[index]).squeeze(1)
    return out


def _weights(near: Tensor, temperature: float) -> Tensor:
    return (near / temperature).softmax(1)  # exp(s / temperature), safe for any temperature


def _nearest(
    bank: Tensor, queries: Tensor, k: int, silent: Tensor, leave_one_out: bool
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """For portions of the queries: which rows they are, their k largest cosines [m, k], and of which rows of
    the bank [m, k]; `silent` ones [N] are passed over."""
    voters = int((~silent).sum()) - leave_one_out
    if voters < 1:
        raise ValueError("no labelled row is left to vote")
    bank = F.normalize(bank.float(), dim=1)
    portion = max(1, _CELLS // len(bank))
    for start in range(0, len(queries), portion):
        part = F.normalize(queries[start : start + portion].float(), dim=1)
        near = (part @ bank.T).masked_fill_(silent, -torch.inf)  # [m, N]
        if leave_one_out:
            near[:, start : start + len(part)].fill_diagonal_(-torch.inf)
        near, index = near.topk(min(k, voters), dim=1)
        yield slice(start, start + len(part)), near, index


@torch.no_grad()
def neighbours(bank: Tensor, k: int) -> Tensor:
    """For each row of `bank` [N, D] its k nearest others by cosine similarity, nearest first: [N, k]."""
    silent = torch.zeros(len(bank), dtype=torch.bool, device=bank.device)
    return torch.cat([index for _, _, index in _nearest(bank, bank, k, silent, True)])


def knn_accuracy(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], k: int = 20, temperature: float = 0.07
) -> float:
    """The share of test rows whose label wins the vote of the training rows; each is (x [N, D], labels [N]).

    Test rows labelled -1 are left out; a label that no training row has counts as wrong.
    """
    (x, y), (queries, truth) = train, test
    known = truth >= 0
    votes = knn_scores(x, y, queries[known], k, temperature)
    return float((votes.argmax(1) == truth[known]).float().mean())
