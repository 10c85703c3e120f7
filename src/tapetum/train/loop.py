"""The training loop. It knows data, precision, optimiser and processes; it knows no method."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tapetum.base import distributed
from tapetum.base.memory import keep_freed
from tapetum.encoders.chunks import in_chunks, mixes
from tapetum.methods.method import Method
from tapetum.train import sharding
from tapetum.train.attempt import Statistics, finite, halve, ran_out
from tapetum.train.feed import Feed

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


@dataclass
class Step:
    """What one optimiser step gave: numbers to log (means over processes) and the seconds
    spent waiting for data."""

    number: int  # steps done so far
    numbers: dict[str, Tensor]
    waited: float
    skipped: bool = False  # the loss or the gradient is no finite number: the step has changed nothing
    past: bool = False  # the next epoch has begun since, which may have changed what the step had left


def fit(
    method: Method,
    optimizer: torch.optim.Optimizer,
    feed: Feed,
    *,
    steps: int,
    start: int = 0,
    set_rates: Callable[[float], None] = lambda t: None,
    precision: str = "fp32",
    clip: float = 0.0,
    seed: int = 0,
    scaler: torch.amp.GradScaler | None = None,
    halving: bool = True,
) -> Iterator[Step]:
    """Train from step `start` to `steps`, giving control back after each.

    The loss is of the whole batch; `feed.micro_batch` images of it go through a large network at once, so it
    may be changed between two steps, and without batch norm it changes no result (encoders/chunks.py). Where
    memory runs out it is halved and the step done again; `halving` off raises what was raised.
    Every step is a function of the method's and the optimiser's state and of the step's number: dropout's
    generator, too, is seeded anew for each, so a resumed run needs no generator's state.
    """
    keep_freed()
    device = next(method.parameters()).device
    dtype = PRECISIONS[precision]
    parameters = [p for p in method.parameters() if p.requires_grad]
    batches, statistics = feed.batches(start, steps), Statistics(method)
    method.train()
    begun = -1  # the last step whose epoch's beginning is done
    done: Step | None = None
    for step in range(start, steps):
        statistics.keep()
        while True:
            try:
                began = time.perf_counter()
                batch = next(batches)
                waited = time.perf_counter() - began
                torch.manual_seed(hash((seed, step, distributed.rank())))
                set_rates(step / steps)
                if step % feed.steps_per_epoch == 0 and begun != step:
                    if done:
                        done.past = True
                    with sharding.opened(method):
                        method.before_epoch(step / steps, partial(_over, method, feed, device, dtype))
                    begun = step
                with in_chunks(method, feed.micro_batch if feed.micro_batch < len(batch) else None):
                    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                        out = method(batch, step / steps)
                    (scaler.scale(out["loss"]) if scaler else out["loss"]).backward()
                break
            except Exception as error:
                statistics.restore()
                optimizer.zero_grad(set_to_none=True)
                if not (halving and ran_out(error)):
                    raise
            halve(feed, step, mixes(method), sharding.is_split(method))
            batches = feed.batches(step, steps)
        kept, numbers = out.pop("keep", {}), averaged(out)
        with sharding.mixing(parameters):
            norm, taken = _update(optimizer, parameters, clip, scaler, numbers["loss"])
        if taken:
            method.after_step((step + 1) / steps, gathered(kept))
        else:
            statistics.restore()
        spoilt = not taken and not (scaler and finite(numbers["loss"]) and scaler.get_scale() >= 1)
        yield (done := Step(step + 1, numbers | {"gradient_norm": norm}, waited, spoilt))


@torch.no_grad()
def _over(
    method: Method,
    feed: Feed,
    device: torch.device,
    dtype: torch.dtype | None,
    f: Callable[[Tensor], Tensor],
) -> Tensor:
    """f of all training images [N, ...], in eval mode; see Method.before_epoch."""

    def narrow(x: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):  # not the views, too
            return f(x)

    with evaluating(method):
        found = feed.whole(narrow)
    return found.float() if found.dtype in PRECISIONS.values() else found


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards each part is as it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _update(
    optimizer: torch.optim.Optimizer,
    parameters: list[nn.Parameter],
    clip: float,
    scaler: torch.amp.GradScaler | None,
    loss: Tensor,
) -> tuple[Tensor, bool]:
    """Average the gradients over processes, clip them, and take the step unless they or the loss (the mean
    over processes) are not finite. Gives the gradient's norm, over all parts of split weights, and whether
    the step was taken: all processes decide alike.

    On a GPU the one wait for the numbers to log comes here, before the step is taken and not after it: as
    many waits, and the same work between two of them.
    """
    whole = [p for p in parameters if not sharding.split(p)]
    distributed.average_gradients(whole)  # first: what overflows in one process overflows in all
    if scaler:
        scaler.unscale_(optimizer)
    norm = sharding.full(torch.nn.utils.clip_grad_norm_(parameters, clip if clip else float("inf"))).cpu()
    taken = finite(loss, norm)
    if scaler:
        if taken:
            scaler.step(optimizer)
        scaler.update()  # after an overflow to a lower scale
    elif taken:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm, taken


@torch.no_grad()
def gathered(kept: dict[str, Tensor]) -> dict[str, Tensor]:
    """What all processes kept, joined along the first axis in image order."""
    return {name: distributed.gather(x.detach().contiguous()) for name, x in kept.items()}


@torch.no_grad()
def averaged(out: dict) -> dict[str, Tensor]:
    """The logged numbers, averaged over processes."""
    values = torch.stack([torch.as_tensor(value).detach().double().cpu() for value in out.values()])
    return dict(zip(out, distributed.mean(values)))
