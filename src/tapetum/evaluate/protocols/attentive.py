"""Attentive probe: one learnt query looks at all stored tokens (Chen et al. 2022, arXiv:2202.03026)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from tapetum.base import random
from tapetum.base.console import Progress
from tapetum.base.settings import Amount, Count, Positive
from tapetum.evaluate.case import Case
from tapetum.evaluate.learn import answers, truth
from tapetum.evaluate.protocols.logistic import FOLDS, loss_of, strata
from tapetum.evaluate.result import Result
from tapetum.evaluate.split import folds

VERSION = 1
SPLITS = "once"
NEEDS = "maps"
RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
LEAST, WARMUP = 300, 0.1  # steps however few the images; share of them in which the rate climbs
PORTION = 2**26  # bytes of tokens in float32 that are read at once


@dataclass(frozen=True)
class Tokens:
    """Stored tokens [N, P, D] float16, read in portions as they are wanted, with a mean of 0 and a deviation
    of 1 in each dimension."""

    x: np.ndarray
    rows: np.ndarray
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, at: Tensor) -> Tensor:
        """Those of some images [b] as float32 [b, P, D]."""
        found = torch.from_numpy(np.asarray(self.x[self.rows[at.numpy()]], dtype=np.float32))
        return (found - self.mean) / self.std

    def take(self, keep: Tensor) -> "Tokens":
        """Those of the images where `keep` [N] is true."""
        return Tokens(self.x, self.rows[keep.numpy()], self.mean, self.std)


class Heads(nn.Module):
    """Attentive heads side by side, one for each learning rate.

    Each has the form of CAE's: a query that is the same for all images attends to the patches by several
    heads, and a linear layer reads what they gather. As the query is fixed once learnt, its product with the
    keys' projection is one direction for each head; as nothing stands between the attention's output
    projection and the linear layer, these are one too. Both are learnt as such.
    """

    def __init__(self, count: int, heads: int, dim: int, width: int, seed: int):
        super().__init__()
        inner = max(1, dim // heads)

        def drawn(name: str, *shape: int) -> list[Tensor]:
            u = random.uniform(seed, 0, torch.zeros(1, dtype=torch.long), name, shape)[0]
            return [(2 * u - 1) / dim**0.5 for _ in range(count)]

        self.query = nn.ParameterList(drawn("query", heads, dim))
        self.value = nn.ParameterList(drawn("value", heads, inner, dim))
        self.weight = nn.ParameterList([torch.zeros(width, heads * inner) for _ in range(count)])
        self.bias = nn.ParameterList([torch.zeros(width) for _ in range(count)])

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, P, D] -> answers [G, B, width]."""
        query = torch.stack([*self.query])  # [G, H, D]
        looks = (x @ query.flatten(0, 1).T).softmax(1)  # [B, P, G H]
        seen = (looks.mT @ x).unflatten(1, query.shape[:2])  # [B, G, H, D]
        value = torch.stack([*self.value])  # [G, H, d, D]
        gathered = torch.einsum("bghd,ghed->gbhe", seen, value).flatten(2)  # [G, B, H d]
        return torch.baddbmm(torch.stack([*self.bias])[:, None], gathered, torch.stack([*self.weight]).mT)

    def groups(self) -> Iterator[list[nn.Parameter]]:
        """The parameters of each."""
        for parts in zip(self.query, self.value, self.weight, self.bias):
            yield list(parts)


def protocol(
    case: Case,
    *,
    heads: Count = 8,
    rates: tuple[Positive, ...] = RATES,
    decay: Amount = 0.01,
    epochs: Count = 20,
    batch_size: Count = 128,
) -> Result:
    """A learnt query attends to the tokens of the patches (a ConvNet's maps, place by place), and a linear
    layer reads what it gathers; V-JEPA (arXiv:2404.08471) adds an MLP. Tokens are standardised by the
    training images. All rates train side by side by AdamW, with a cosine schedule; the one with the lowest
    loss on a held-out fifth of the training images trains once more on all.

    Args:
        heads: of the attention.
        rates: learning rates that are tried.
        decay: weight decay.
        epochs: passes over the training images, and at least 300 steps.
        batch_size: images a step.
    """
    data = case.labelled
    train, test = case.of("train", "tokens").x, case.of("test", "tokens").x
    mean, std = moments(train, data.seen)
    known, queries = (Tokens(x, rows, mean, std) for x, rows in ((train, data.seen), (test, data.rows)))
    y, centre, spread = data.y, torch.tensor(0.0), torch.tensor(1.0)
    if case.kind == "number":
        centre, spread = y.mean(), y.std(correction=0).clamp(min=1e-12)
        y = (y - centre) / spread
    run = partial(
        trained,
        width=data.width,
        heads=heads,
        decay=decay,
        epochs=epochs,
        batch_size=batch_size,
        seed=case.seed,
    )
    out = torch.from_numpy(folds(strata(y).numpy(), FOLDS, case.seed)) == 0
    best = 0
    if out.any() and len(rates) > 1:
        found = run(known.take(~out), y[~out], known.take(out), rates)
        losses = [loss_of(y)(a, y[out], reduction="sum") for a in found]
        best = int(torch.stack(losses).nan_to_num(nan=torch.inf).argmin())
    scores = run(known, y, queries, rates[best : best + 1])[0] * spread + centre
    return case.result(
        "attentive",
        VERSION,
        case.metric,
        answers(scores, case)[None],
        truth(case),
        rows=data.rows,
        head={"heads": heads, "rates": list(rates), "decay": decay, "standardised": True, "folds": FOLDS},
        schedule={"epochs": epochs, "batch_size": batch_size, "least_steps": LEAST, "warmup": WARMUP},
        notes=data.notes,
        details={"rate": rates[best]},
    )


def moments(x: np.ndarray, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [D] of all tokens of some images of x [N, P, D], read in portions."""
    count, total, squares = 0, torch.tensor(0.0), torch.tensor(0.0)
    for part in portions(len(rows), x.shape):
        here = torch.from_numpy(np.asarray(x[rows[part]], dtype=np.float32)).flatten(0, 1).double()
        count, total, squares = count + len(here), total + here.sum(0), squares + here.square().sum(0)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return mean.float(), torch.where(std > 1e-6 * std.max(), std, torch.ones_like(std)).float()


def portions(count: int, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Numbers of images that are read at once."""
    size = max(1, PORTION // (4 * int(np.prod(shape[1:]))))
    yield from np.split(np.arange(count), range(size, count, size))


def trained(
    x: Tokens,
    y: Tensor,
    queries: Tokens,
    rates: tuple[float, ...],
    *,
    width: int,
    heads: int,
    decay: float,
    epochs: int,
    batch_size: int,
    seed: int,
) -> Tensor:
    """The answers [G, M, width] to queries of a head for each rate, trained side by side on x and y [N]."""
    model = Heads(len(rates), heads, x.x.shape[2], width, seed)
    groups = [{"params": own, "lr": rate, "peak": rate} for own, rate in zip(model.groups(), rates)]
    steps_of = torch.optim.AdamW(groups, weight_decay=decay)
    batch_size = min(batch_size, len(x))
    a_pass = len(x) // batch_size
    steps = max(LEAST, epochs * a_pass)
    with Progress(steps * batch_size, "attentive probe") as bar:
        for step in range(steps):
            epoch, at = divmod(step, a_pass)
            if at == 0:
                order = random.order(seed, epoch, len(x))
            rows = order[at * batch_size : (at + 1) * batch_size].sort().values  # as they lie on the disk
            t = (step + 0.5) / steps
            for group in steps_of.param_groups:
                group["lr"] = group["peak"] * min(t / WARMUP, 0.5 * (1 + np.cos(np.pi * t)))
            found = model(x.read(rows))
            steps_of.zero_grad()
            torch.stack([loss_of(y)(a, y[rows], reduction="mean") for a in found]).sum().backward()
            steps_of.step()
            bar.advance(batch_size)
    with torch.no_grad():
        parts = [model(queries.read(torch.from_numpy(p))) for p in portions(len(queries), queries.x.shape)]
    return torch.cat(parts, 1)
