"""The range test of learning rates: the rate climbs from step to step, the loss says what it is worth.
arXiv:1506.01186"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tapetum.methods.method import Method
from tapetum.train.feed import Feed
from tapetum.train.loop import fit

BACK = 2.0  # times what the loss had fallen by that it rises above its start, where it diverges
NOISE = 3.0  # standard deviations of a loss that it must rise by beyond that
LEFT_OUT = 3  # steps in a row without a finite gradient end the sweep
CONTRACTED = 0.5  # share of the rank at low rates below which features have collapsed
LEARNT = 1.5  # standard deviations of a loss that the smoothed loss falls by at least, where anything learns


@dataclass
class Sweep:
    """What a range test saw.

    Args:
        rates: the learning rate of each step, climbing.
        losses: what each step made of the loss: the loss of the step after it.
        ranks: the features' effective rank after some of the steps, by the step's place in the lists.
        ended: why it ended before the highest rate, or "".
    """

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    ranks: dict[int, float] = field(default_factory=dict)
    ended: str = ""

    @property
    def smooth(self) -> np.ndarray:
        """The losses, each a mean over its neighbours, weighted by a bell of a fortieth of the steps."""
        y, at = np.array(self.losses), np.arange(len(self.losses))
        bell = np.exp(-0.5 * ((at[:, None] - at) / max(1.0, len(y) / 40)) ** 2)
        return bell @ y / bell.sum(1)

    @property
    def noise(self) -> float:
        """The standard deviation of a loss from batch to batch, which a few that diverge do not change."""
        return 1.05 * float(np.median(np.abs(np.diff(self.losses)))) if len(self.losses) > 1 else 0.0

    @property
    def collapsed(self) -> int | None:
        """The first step after which the features' rank is less than half of what it was at low rates."""
        looks = sorted(self.ranks)
        if len(looks) < 4:
            return None
        before = float(np.median([self.ranks[i] for i in looks[: len(looks) // 4 + 1]]))
        return next((i for i in looks if not self.ranks[i] >= CONTRACTED * before), None)


@dataclass(frozen=True)
class Proposal:
    """The rate to take, and where it comes from.

    Args:
        rate: the lower of the two that follow; None where the loss fell at no rate.
        steepest: where the loss falls fastest.
        lowest: where the loss is least, among rates at which nothing has collapsed; a tenth of it is usual.
        why: in a sentence or two.
    """

    rate: float | None
    steepest: float
    lowest: float
    why: str


def geometric(low: float, high: float, count: int) -> list[float]:
    """Rates from low to high, each the same number of times the one before."""
    return [low * (high / low) ** (i / max(1, count - 1)) for i in range(count)]


def sweep(
    method: Method,
    optimizer: torch.optim.Optimizer,
    feed: Feed,
    rates: Sequence[float],
    set_rate: Callable[[float, float], None],
    look: Callable[[], float],
    *,
    steps: int,
    looks: int = 20,
    **how: Any,
) -> Sweep:
    """Train, each step at the next of the rates, until the loss diverges or the rates end.

    Args:
        set_rate: gives the optimiser a rate, at progress t of the training.
        look: the rank of the method's features now.
        steps: of the whole training, whose first steps these are.
        looks: at so many places the rank is measured.
        how: as `fit` takes it: precision, clip, seed, scaler.
    """
    found, steps = Sweep(), max(steps, len(rates) + 1)
    every, last = max(1, len(rates) // looks), len(rates)
    rate_at = lambda t: set_rate(t, rates[min(round(t * steps), last - 1)])  # noqa: E731
    still = 0  # steps in a row that were left out
    for step in fit(method, optimizer, feed, steps=steps, set_rates=rate_at, **how):
        done, moved = (
            step.number - 1,
            not still,
        )  # steps whose result this loss is; whether the last was taken
        still = still + 1 if step.skipped else 0
        loss = float(step.numbers["loss"])
        if not math.isfinite(loss):
            found.ended = f"the loss is {loss} after a step at {rates[max(done - 1, 0)]:.2g}"
            break
        if done and moved:
            found.rates.append(rates[done - 1])
            found.losses.append(loss)
        if still == LEFT_OUT:
            found.ended = (
                f"the gradient is not finite in {still} steps up to {rates[min(done, last - 1)]:.2g}"
            )
            break
        if diverged(found):
            found.ended = f"the loss diverged at {found.rates[-1]:.2g}"
            break
        if done == last:
            break
        if step.number % every == 0:
            found.ranks[done] = look()
            if not math.isfinite(found.ranks[done]):
                found.ended = f"the features are not finite after a step at {rates[done]:.2g}"
                break
    found.ranks = {i: rank for i, rank in found.ranks.items() if i < len(found.rates)}
    return found


def diverged(found: Sweep) -> bool:
    """Whether the loss has risen above where it began by more than twice what it had fallen, and by more
    than its noise; three losses in a row, so that one odd batch ends nothing."""
    y = found.losses
    if len(y) < 10:
        return False
    start, best, late = float(np.mean(y[:5])), float(found.smooth.min()), min(y[-3:])
    return late > start + BACK * max(start - best, 0.0) + NOISE * found.noise


def proposed(found: Sweep) -> Proposal:
    """What a range test says of the rate."""
    y, x, end = found.smooth, np.log10(found.rates), found.collapsed
    usable = max(2, len(y) if end is None else end)
    low = int(y[:usable].argmin())
    slope = np.gradient(y, x)[: max(2, low + 1)]
    steep = int(slope.argmin())
    steepest, lowest = found.rates[steep], found.rates[low]
    why = [
        f"The loss falls fastest at {steepest:.2g} and is least at {lowest:.2g}; the lower of the first and "
        "a tenth of the second is taken."
    ]
    if end is not None:
        why.append(
            f"From {found.rates[end]:.2g} on the features collapse (rank {found.ranks[end]:.3g} after "
            f"{found.ranks[min(found.ranks)]:.3g}), so what the loss does there counts for nothing."
        )
    if y[:5].mean() - y[low] < LEARNT * found.noise:
        noise = "The loss falls at no rate by more than its noise: try more --points, or see whether a few "
        why = [*why[1:], noise + "hundred steps of training learn anything."]
        return Proposal(None, steepest, lowest, " ".join(why))
    if low == len(y) - 1 and not found.ended:
        why.append("The loss still falls at the highest rate: look again with a larger --high.")
    return Proposal(min(steepest, lowest / 10), steepest, lowest, " ".join(why))
