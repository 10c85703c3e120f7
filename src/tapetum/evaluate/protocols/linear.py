"""Linear probe by SGD: many learning rates and decays at once, one chosen on held-out training images."""

import torch
from torch import Tensor

from tapetum.base import random
from tapetum.base.settings import Amount, Count, Positive
from tapetum.evaluate.case import Case
from tapetum.evaluate.learn import Learner, learn
from tapetum.evaluate.protocols.logistic import FOLDS, loss_of, scale, strata
from tapetum.evaluate.result import Result
from tapetum.evaluate.split import folds

VERSION = 2
RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
DECAYS = (0.0, 1e-4, 1e-2)
MOMENTUM = 0.9
LEAST = 300  # steps, however few the images


def protocol(
    case: Case,
    *,
    rates: tuple[Positive, ...] = RATES,
    decays: tuple[Amount, ...] = DECAYS,
    epochs: Count = 20,
    batch_size: Count = 256,
) -> Result:
    """Features are standardised by the training images (a batch norm without scale and shift, as in He et al.
    2021, arXiv:2111.06377). Heads start at zero and follow SGD with momentum and a cosine schedule. The rate
    and decay with the lowest loss on a held-out fifth of the training images train once more on all.

    Args:
        rates: learning rates that are tried.
        decays: weight decays that are tried with each of them.
        epochs: passes over the training images, and at least 300 steps.
        batch_size: images a step.
    """
    chosen: list[tuple[float, float]] = []
    head = {"rates": list(rates), "decays": list(decays), "standardised": True, "folds": FOLDS}
    schedule = {"epochs": epochs, "batch_size": batch_size, "least_steps": LEAST, "momentum": MOMENTUM}
    run = learner(rates, decays, epochs, batch_size, chosen)
    return learn(case, "linear", VERSION, head, run, schedule=schedule, details={"rate and decay": chosen})


def learner(
    rates: tuple[float, ...] = RATES,
    decays: tuple[float, ...] = DECAYS,
    epochs: int = 20,
    batch_size: int = 256,
    chosen: list[tuple[float, float]] | None = None,
) -> Learner:
    """The probe, for any kind of labels; the rates and decays that it takes are added to `chosen`."""
    pairs = [(rate, decay) for rate in rates for decay in decays]

    def probe(x, y, queries, width, seed):
        fold = torch.from_numpy(folds(strata(y).numpy(), FOLDS, seed))  # [N]
        best, out = 0, fold == 0
        if out.any() and len(pairs) > 1:
            grid = torch.tensor(pairs)
            answers = trained(x[~out], y[~out], x[out], width, grid, epochs, batch_size, seed)  # [G, n, W]
            losses = torch.stack([loss_of(y)(a, y[out], reduction="sum") for a in answers])
            best = int(losses.nan_to_num(nan=torch.inf).argmin())
        if chosen is not None:
            chosen.append(pairs[best])
        return trained(x, y, queries, width, torch.tensor(pairs[best : best + 1]), epochs, batch_size, seed)[
            0
        ]

    return probe


@torch.no_grad()
def trained(
    x: Tensor, y: Tensor, queries: Tensor, width: int, grid: Tensor, epochs: int, batch_size: int, seed: int
) -> Tensor:
    """The answers [G, M, W] to queries [M, D] of a head for each rate and decay in `grid` [G, 2], all trained
    side by side on x [N, D], y [N, ...]."""
    mean, std = scale(x)
    x, queries = (x - mean) / std, (queries - mean) / std
    middle = y.mean() if y.is_floating_point() and y.ndim == 1 else torch.tensor(0.0)
    heads, dim = len(grid), x.shape[1]
    weight, moved = torch.zeros(heads, width, dim), torch.zeros(heads, width, dim)
    bias, moved_bias = torch.zeros(heads, width), torch.zeros(heads, width)
    rate, decay = grid[:, 0].view(-1, 1, 1), grid[:, 1].view(-1, 1, 1)
    batch_size = min(batch_size, len(x))
    steps = max(LEAST, epochs * (len(x) // batch_size))
    for step in range(steps):
        epoch, at = divmod(step * batch_size, len(x) - len(x) % batch_size)
        if at == 0:
            order = random.order(seed, epoch, len(x))
        rows = order[at : at + batch_size]
        logits = (x[rows] @ weight.flatten(0, 1).T).unflatten(1, (heads, width)) + bias  # [B, G, W]
        slope = _slope(logits, y[rows], middle) / len(rows)  # of the loss, by the logits
        now = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / steps)))
        moved = (
            MOMENTUM * moved + (slope.flatten(1).T @ x[rows]).unflatten(0, (heads, width)) + decay * weight
        )
        moved_bias = MOMENTUM * moved_bias + slope.sum(0)
        weight -= now * rate * moved
        bias -= now * rate[..., 0] * moved_bias
    answers = queries @ weight.flatten(0, 1).T
    return answers.unflatten(1, (heads, width)).movedim(1, 0) + bias[:, None] + middle


def _slope(logits: Tensor, y: Tensor, middle: Tensor) -> Tensor:
    """The gradient of cross-entropy, binary cross-entropy or half the squared error by logits [B, G, W]."""
    if not y.is_floating_point():
        slope = logits.softmax(2)
        slope[torch.arange(len(y)), :, y] -= 1
        return slope
    return logits.sigmoid() - y[:, None] if y.ndim == 2 else logits - (y - middle)[:, None, None]
