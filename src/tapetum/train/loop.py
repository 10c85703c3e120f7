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
from tapetum.methods.method import Method
from tapetum.train import sharding
from tapetum.train.feed import Feed

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


@dataclass
class Step:
    """What one optimiser step gave: numbers to log (means over micro-batches and processes) and the seconds
    spent waiting for data."""

    number: int  # steps done so far
    numbers: dict[str, Tensor]
    waited: float


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
) -> Iterator[Step]:
    """Train from step `start` to `steps`, giving control back after each.

    Every step is a function of the method's and the optimiser's state and of the step's number: dropout's
    generator, too, is seeded anew for each, so a resumed run needs no generator's state.
    """
    keep_freed()
    device = next(method.parameters()).device
    dtype = PRECISIONS[precision]
    parameters = [p for p in method.parameters() if p.requires_grad]
    batches = feed.batches(start, steps)
    method.train()
    for step in range(start, steps):
        began = time.perf_counter()
        parts = next(batches)
        waited = time.perf_counter() - began
        torch.manual_seed(hash((seed, step, distributed.rank())))
        set_rates(step / steps)
        if step % feed.steps_per_epoch == 0:
            with sharding.opened(method):
                method.before_epoch(step / steps, partial(_over, method, feed, device, dtype))
        outs = []
        for batch in parts:
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                out = method(batch, step / steps)
            loss = out["loss"] / len(parts)
            (scaler.scale(loss) if scaler else loss).backward()
            outs.append(out)
        with sharding.mixing(parameters):
            numbers = _update(optimizer, parameters, clip, scaler)
        kept = [out.pop("keep", {}) for out in outs]
        method.after_step((step + 1) / steps, joined(kept))
        yield Step(step + 1, averaged(outs) | numbers, waited)


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
) -> dict[str, Tensor]:
    """Average the gradients over processes, clip them, and take the step."""
    whole = [p for p in parameters if not sharding.split(p)]
    distributed.average_gradients(whole)  # first: what overflows in one process overflows in all
    if scaler:
        scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip if clip else float("inf"))
    if scaler:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"gradient_norm": sharding.full(norm)}


@torch.no_grad()
def joined(kept: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """What micro-batches and processes kept, joined along the first axis in image order."""
    return {
        name: distributed.gather(torch.cat([part[name].detach() for part in kept]).contiguous())
        for name in kept[0]
    }


@torch.no_grad()
def averaged(outs: list[dict]) -> dict[str, Tensor]:
    """The logged numbers, averaged over micro-batches and processes."""
    names = [name for name in outs[0] if name != "keep"]
    values = torch.stack(
        [torch.stack([torch.as_tensor(o[n]).detach().double().cpu() for n in names]) for o in outs]
    )
    return dict(zip(names, distributed.mean(values.mean(0))))
