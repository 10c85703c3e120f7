"""What a run will cost before it starts: measured rate, time, memory and disk; and settings that fit them."""

import copy
import gc
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from tapetum.base import console
from tapetum.base.errors import TapetumError
from tapetum.data.canvas import free_memory
from tapetum.encoders.chunks import in_chunks
from tapetum.train import setup
from tapetum.train.attempt import ran_out
from tapetum.train.defaults import Choice
from tapetum.train.loop import PRECISIONS, fit
from tapetum.views.nest import tensors

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SPARED = 0.05  # share of a GPU's free memory that a trial leaves
ON_CPU = 0.7  # share of the free memory that activations may take, by estimate


def seconds(text: str) -> float:
    """`8h`, `90m`, `1d12h` or `30s` in seconds. Raises TapetumError on anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", str(text))
    if not parts or "".join(n + u for n, u in parts) != str(text).strip():
        raise TapetumError(f"budget is {text!r}; write a time such as 8h, 90m or 1d12h.")
    if not (total := sum(float(n) * UNITS[u] for n, u in parts)):
        raise TapetumError(f"budget is {text!r}, which is no time at all.")
    return total


def fitted(given: dict[str, Any], groups: dict[str, dict]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settle what needs a trial: a micro-batch that fits in memory, epochs that fit in the budget.

    Returns the settings, and the plan as a report. The trial works on copies: the run
    that follows starts from the same weights as one without a trial.
    """
    budget = seconds(given["budget"]) if given.get("budget") else None
    if setup.launch.launched():
        raise TapetumError(
            "each process of torchrun would measure for itself; use --devices N, or give --epochs."
        )
    if given.get("parallel") == "sharded":
        raise TapetumError(
            "--plan, --budget and --micro-batch auto try steps in one process, which --parallel sharded does "
            "not; give --epochs or --steps, and leave the others out."
        )
    if budget and (given.get("epochs") or given.get("steps")):
        raise TapetumError("--budget chooses the epochs itself; leave out --epochs and --steps.")
    began = time.monotonic()
    job = setup.prepare({**given, "micro_batch": None} if given["micro_batch"] == "auto" else given, groups)
    world = max(1, setup.launch.count(given["devices"]))
    share = job.config["batch_size"] // world
    if job.device.type == "cuda":
        job.feed.batch_size = share  # one GPU's work
    if given["micro_batch"] == "auto":
        micro, why = micro_batch(job, share, world)
        job.choices["micro_batch"] = Choice(micro, why)
        given = {**given, "micro_batch": micro}
        job.feed.micro_batch = micro
    step_time, memory = trial(job)
    rate = job.config["batch_size"] / step_time
    started = time.monotonic() - began
    if budget:
        epochs = int((budget * 0.97 - started) * rate / (job.feed.steps_per_epoch * job.config["batch_size"]))
        if epochs < 1:
            raise TapetumError(
                f"the budget {given['budget']} is too short: one epoch takes "
                f"{console.duration(job.feed.steps_per_epoch * step_time)} at {rate:,.0f} images a second."
            )
        job.choices["epochs"] = Choice(epochs, f"fill {given['budget']} at {rate:,.0f} images a second")
        given = {**given, "epochs": epochs}
        job.steps = epochs * job.feed.steps_per_epoch
    weights = sum(t.numel() * t.element_size() for t in job.method.state_dict().values())
    optimizer = sum(2 * p.numel() * 4 for p in job.method.parameters() if p.requires_grad)
    report = {
        "settings": {n: {"value": setup.plain(c.value), "why": c.reason} for n, c in job.choices.items()},
        "steps": job.steps,
        "images_per_second": round(rate, 1),
        "seconds": round(job.steps * step_time + started),
        "memory_bytes": int(memory),
        "disk_bytes": int((weights + optimizer) * (given["keep_checkpoints"] + 1) + weights),
    }
    del job
    _freed()  # what the trial took of a GPU is its children's
    return given, report


def show(report: dict[str, Any]) -> None:
    """Print a plan as two small tables."""
    rows = [(name, c["value"], c["why"]) for name, c in report["settings"].items()]
    console.table(rows, ("setting", "value", "why"))
    console.table(
        [
            ("rate", f"{report['images_per_second']:,.0f} images a second", "measured just now"),
            ("time", console.duration(report["seconds"]), f"{report['steps']:,} steps"),
            ("memory", console.size(report["memory_bytes"]), "images, weights, optimiser, activations"),
            ("disk", console.size(report["disk_bytes"]), "checkpoints and encoder"),
        ],
        ("cost", "estimate", "from"),
    )


def trial(job: setup.Job, steps: int = 4) -> tuple[float, float]:
    """Seconds a step takes, and bytes of memory, from a few steps of copies of method and optimiser."""
    if job.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = stepped(job, steps)
    if job.device.type == "cuda":
        memory = float(torch.cuda.max_memory_allocated())
    else:
        state = sum(t.numel() * t.element_size() for t in job.method.state_dict().values())
        memory = (
            4.0 * state
            + activations(job, share := job.feed.batch_size)(min(job.feed.micro_batch, share))
            + len(job.canvas) * job.source.form.channels * job.canvas.side**2 * job.canvas.in_memory
        )
    return min(times[1:]), memory


def stepped(job: setup.Job, steps: int) -> list[float]:
    """Seconds that each of a few steps takes, of copies of method and optimiser."""
    method = copy.deepcopy(job.method)
    optimizer = setup.optimizer.build(method, job.settings, job.peak)
    times, before = [], time.monotonic()
    precision = job.config["precision"]
    for step in fit(method, optimizer, job.feed, steps=steps, precision=precision, halving=False):
        float(step.numbers["loss"])
        times.append(time.monotonic() - before)
        before = time.monotonic()
    return times


def micro_batch(job: setup.Job, share: int, world: int = 1) -> tuple[int, str]:
    """The largest micro-batch with which a step of `share` images fits into memory, and why it is that.

    On a GPU whole steps of copies are tried, on a CPU it is estimated. Raises TapetumError where a GPU has no
    room for a single image at a time.
    """
    if job.device.type == "cpu":
        need, room = activations(job, share), ON_CPU * free_memory() / world
        micro = largest(share, lambda n: n == 1 or need(n) < room, exact=True)
        return micro, f"{console.size(need(micro))} for activations fit in memory"
    with sparing(job.device):
        micro = largest(share, lambda n: fits(job, share, n))
    if not micro:
        raise TapetumError(
            f"a batch of {share} images does not fit into the GPU's memory, even with one image in the "
            "network at a time; a smaller --batch-size does."
        )
    return micro, "all at once fit in memory" if micro == share else "the most that fit in memory, as tried"


def largest(most: int, fits: Callable[[int], bool], exact: bool = False) -> int:
    """The largest number up to `most` that fits, or one less than a sixteenth below it; 0 if not even 1 does.

    Tried is `most`, then halves, then the middles between what fitted and what did not.
    """
    good, bad = most, most + 1
    while good and not fits(good):
        good, bad = good // 2, good
    while bad - good > (1 if exact else max(1, good // 16)):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def fits(job: setup.Job, share: int, micro: int) -> bool:
    """Whether two steps of copies run in such micro-batches; in the second the optimiser has its averages."""
    feed = copy.copy(job.feed)
    feed.batch_size, feed.micro_batch = share, micro
    enough = True
    try:
        stepped(replace(job, feed=feed), 2)
    except Exception as error:
        if not ran_out(error):
            raise
        enough = False
    _freed()
    return enough


def _freed() -> None:
    """Give back what nobody holds any more, also what an error held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def sparing(device: torch.device) -> Iterator[None]:
    """Inside, this process gets all but a twentieth of a GPU's free memory; more raises OutOfMemoryError."""
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    mine = torch.cuda.memory_reserved(device) + (1 - SPARED) * free
    torch.cuda.set_per_process_memory_fraction(mine / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def activations(job: setup.Job, share: int, images: int = 8) -> Callable[[int], float]:
    """Bytes that a step of `share` images holds for its backward pass, by the size of its micro-batches.

    What networks that take micro-batches keep is counted for all views of an image at once, which is too much
    for methods of several views."""
    whole, outside = (held(job, images, micro) / images for micro in (None, images // 2))
    return lambda micro: share * outside + micro * (whole - outside)


def held(job: setup.Job, images: int, micro: int | None) -> float:
    """Bytes of views, and of what a forward pass of some images keeps for the backward pass, but for what is
    computed again."""
    method = copy.deepcopy(job.method).train()
    index = torch.arange(images) % len(job.canvas)
    batch = job.feed.batch(0, index, *job.canvas.fetch(index))
    kept = {x.data_ptr(): x.nbytes for x in tensors({name: batch[name] for name in job.feed.views})}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    dtype = PRECISIONS[job.config["precision"]]
    parameters = {p.data_ptr() for p in method.parameters()}
    with (
        in_chunks(method, micro),
        torch.autograd.graph.saved_tensors_hooks(note, lambda t: t),
        torch.autocast(job.device.type, dtype=dtype, enabled=dtype is not None),
    ):
        out = method(batch, 0.0)  # held, so that no memory is given out twice
    del out
    return float(sum(size for at, size in kept.items() if at not in parameters))
