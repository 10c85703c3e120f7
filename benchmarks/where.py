"""Where does the time of a training step go? Parts of a step of several methods, in shares of the whole.

    python -m benchmarks.where                  # simclr, byol, dino, mae; the rows are kept
    python -m benchmarks.where barlow_twins     # others
    python -m benchmarks.where --dry            # only print

A step is that of the two-minute recipe on CIFAR-10 held in memory. Clocks stand around reading, views,
networks forwards, losses, the optimiser and `after_step`; backwards, the time goes to the encoder from the
moment its output's gradient is there, to the heads from the moment theirs is, and to the loss before. What
no clock saw is "the rest". The machine must be idle.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import rows, speed
from benchmarks.learn import recipes
from benchmarks.trainers import prepared
from tapetum.data.canvas import cores
from tapetum.parts.state import EMA, Frozen
from tapetum.train import setup
from tapetum.train.loop import fit

METHODS = ("simclr", "byol", "dino", "mae")


class Clocks:
    """Seconds by part. Parts may lie within others: inner ones are taken out of outer ones."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.open: list[list[Any]] = []  # part, since when, seconds of what lay within

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        self.open.append([part, time.perf_counter(), 0.0])
        try:
            yield
        finally:
            self._close()

    def _close(self) -> None:
        part, since, within = self.open.pop()
        spent = time.perf_counter() - since
        self.seconds[part] += spent - within
        if self.open:
            self.open[-1][2] += spent

    def switch(self, part: str) -> None:
        """From now on the innermost part is this one."""
        if self.open:
            self._close()
            self.open.append([part, time.perf_counter(), 0.0])

    def around(self, owner: Any, name: str, part: str) -> None:
        """Time a method of an object."""
        f = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.timed(part):
                return f(*args, **kwargs)

        setattr(owner, name, timed)


class _Mark(torch.autograd.Function):
    """Says when the gradient of a tensor is there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tell: Callable[[], None]) -> Tensor:
        ctx.tell = tell
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple:
        ctx.tell()
        return (*gradient, None)


def marked(found: Any, tell: Callable[[], None]) -> Any:
    """A tensor, or a dataclass of tensors, whose gradients are told of."""
    if isinstance(found, Tensor):
        return _Mark.apply(found, tell) if found.requires_grad else found
    if hasattr(found, "vector"):
        for field in fields(found):
            setattr(found, field.name, marked(getattr(found, field.name), tell))
    return found


def watch(job: setup.Job, clocks: Clocks) -> None:
    """Put clocks around the parts of a job's step."""
    method = job.method
    for name, part in method.named_children():
        if name != "encoder":
            _watch_head(part, clocks, "teacher" if isinstance(part, EMA | Frozen) else "heads")
    features = method.encoder.features

    def seen(*args: Any, **kwargs: Any) -> Any:
        with clocks.timed("encoder, forwards"):
            found = features(*args, **kwargs)
        return marked(found, lambda: clocks.switch("encoder, backwards"))

    method.encoder.features = seen  # type: ignore[method-assign]
    clocks.around(job.feed, "batch", "views")
    clocks.around(method, "loss", "loss, forwards")
    clocks.around(method, "after_step", "after the step")
    clocks.around(job.optimizer, "step", "optimiser")


def _watch_head(part: nn.Module, clocks: Clocks, kind: str) -> None:
    forward = part.forward

    def seen(*args: Any, **kwargs: Any) -> Any:
        with clocks.timed(kind if kind == "teacher" else f"{kind}, forwards"):
            found = forward(*args, **kwargs)
        return marked(found, lambda: clocks.switch(f"{kind}, backwards"))

    part.forward = seen  # type: ignore[method-assign]


def profile(name: str, steps: int) -> tuple[dict[str, float], float]:
    """Shares of the parts of a step, and its seconds."""
    recipe = rows.ROOT / "runs" / "where" / f"{name}.yaml"
    one = recipes("two-minutes")[name]
    one.write(recipe)
    source = setup.source_of(rows.data("cifar10.zip"), "auto", None)
    source = source.take(range(min(8192, len(source))))
    job = prepared(source, recipe, precision="bf16", devices="cpu")
    clocks, backward = Clocks(), Tensor.backward
    watch(job, clocks)

    def timed_backward(loss: Tensor, *args: Any, **kwargs: Any) -> None:
        with clocks.timed("loss, backwards"):
            backward(loss, *args, **kwargs)

    Tensor.backward = timed_backward  # type: ignore[method-assign]
    try:
        trained = fit(job.method, job.optimizer, job.feed, steps=10**9, set_rates=job.set_rates,
                      precision="bf16", clip=job.settings.clip)  # fmt: skip
        for _ in range(3):
            next(trained)
        clocks.seconds.clear()
        read, began = job.feed.reading, time.perf_counter()
        for _ in range(steps):
            next(trained)
        whole = time.perf_counter() - began
    finally:
        Tensor.backward = backward  # type: ignore[method-assign]
    parts = {**clocks.seconds, "reading": job.feed.reading - read}
    parts["the rest"] = whole - sum(parts.values())
    return {part: round(spent / whole, 4) for part, spent in parts.items()}, whole / steps


def main() -> None:
    """Measure, show, keep."""
    parser = rows.measuring(__doc__)
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--steps", type=int, default=30)
    asked = parser.parse_args()
    torch.set_num_threads(cores())
    for name in asked.methods:
        shares, seconds = profile(name, asked.steps)
        row = {
            "task": "where",
            "method": name,
            "shares": shares,
            "seconds": round(seconds, 4),
            **rows.facts(),
        }
        print(f"\n{name}: {seconds:.3f} s a step")
        for part, share in sorted(shares.items(), key=lambda item: -item[1]):
            print(f"  {share:6.1%}  {part}")
        rows.finish(asked, row, speed.keep_shares)


if __name__ == "__main__":
    main()
