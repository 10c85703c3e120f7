"""What a run will cost before it starts: measured rate, time, memory and disk; and settings that fit them."""

import copy
import re
import time
from typing import Any

import torch

from tapetum.base import console
from tapetum.base.errors import TapetumError
from tapetum.data.canvas import free_memory
from tapetum.train import setup
from tapetum.train.defaults import Choice
from tapetum.train.loop import PRECISIONS, fit

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


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
    if budget and (given.get("epochs") or given.get("steps")):
        raise TapetumError("--budget chooses the epochs itself; leave out --epochs and --steps.")
    began = time.monotonic()
    job = setup.prepare({**given, "micro_batch": None} if given["micro_batch"] == "auto" else given, groups)
    world = max(1, setup.launch.count(given["devices"]))
    share = job.config["batch_size"] // world
    if given["micro_batch"] == "auto":
        micro, need = micro_batch(job, share)
        job.choices["micro_batch"] = Choice(micro, f"{console.size(need)} for activations fit in memory")
        given = {**given, "micro_batch": micro}
        job.feed.micro_batch = micro
    step_time, memory = trial(job)
    if job.device.type == "cuda":
        step_time /= world  # the trial did the work of all on one GPU
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
    method = copy.deepcopy(job.method)
    optimizer = setup.optimizer.build(method, job.settings, job.peak)
    times = []
    before = time.monotonic()
    for step in fit(method, optimizer, job.feed, steps=steps, precision=job.config["precision"]):
        float(step.numbers["loss"])
        times.append(time.monotonic() - before)
        before = time.monotonic()
    if job.device.type == "cuda":
        memory = float(torch.cuda.max_memory_allocated())
    else:
        state = sum(t.numel() * t.element_size() for t in method.state_dict().values())
        memory = (
            4.0 * state
            + activation_bytes(job) * job.feed.micro_batch
            + len(job.canvas) * job.source.form.channels * job.canvas.side**2 * job.canvas.in_memory
        )
    return min(times[1:]), memory


def activation_bytes(job: setup.Job, images: int = 8) -> float:
    """Bytes that the forward pass of one image keeps for the backward pass."""
    method = copy.deepcopy(job.method)
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    index = torch.arange(images)
    batch = job.feed.batch(0, index, *job.canvas.fetch(index))
    dtype = PRECISIONS[job.config["precision"]]
    parameters = {p.data_ptr() for p in method.parameters()}
    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda t: t),
        torch.autocast(job.device.type, dtype=dtype, enabled=dtype is not None),
    ):
        method(batch, 0.0)
    return sum(size for at, size in kept.items() if at not in parameters) / images


def micro_batch(job: setup.Job, share: int) -> tuple[int, float]:
    """The largest micro-batch, dividing `share`, whose activations fit in 70 % of the free memory."""
    each = activation_bytes(job)
    free = torch.cuda.mem_get_info()[0] if job.device.type == "cuda" else free_memory()
    for parts in range(1, share + 1):
        micro = share // parts
        if share % parts == 0 and (each * micro < 0.7 * free or micro == 1):
            return micro, each * micro
    raise AssertionError("one image always divides the batch")
