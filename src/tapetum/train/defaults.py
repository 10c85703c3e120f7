"""What the user left open, chosen from the data, the encoder and the machine; each with its reason."""

from dataclasses import dataclass
from typing import Any

import torch

from tapetum.base.errors import TapetumError
from tapetum.data.canvas import cores, typical_side
from tapetum.data.source import Source
from tapetum.methods.method import Method

PLAIN = {  # what needs no look at the data
    "method": "simclr",
    "weights": "none",
    "keep_close": 0.0,
    "compile": False,
    "labels": "auto",
    "seed": 0,
    "devices": "auto",
    "parallel": "data",
    "grad_checkpointing": False,
    "log_every": 10,
    "keep_checkpoints": 2,
    "skips": 10,
    "rollbacks": 2,
    "read_timeout": 300.0,
}


@dataclass(frozen=True)
class Choice:
    """A setting's value and why it has it."""

    value: Any
    reason: str


def choose(given: dict[str, Any], source: Source, method: type[Method]) -> dict[str, Choice]:
    """Every open setting, resolved: what is None in `given` gets a default, the rest stays."""
    chosen: dict[str, Choice] = {}

    def settle(name: str, default: Any, reason: str) -> Any:
        chosen[name] = Choice(default, reason) if given.get(name) is None else Choice(given[name], "given")
        return chosen[name].value

    gpu = torch.cuda.is_available() and given.get("devices") != "cpu"
    machine = "a GPU" if gpu else "a CPU"
    images = len(source)
    side = typical_side(source)
    size = settle("image_size", *image_size(side, gpu))
    settle("encoder", *encoder(size, method, gpu))
    if source.store.channels:
        settle("channels", source.store.channels, "what the images have")
    if source.store.levels:
        settle("levels", source.store.levels, "what the images were packed with")
    most = 256 if not gpu else 1024 if size <= 96 else 256
    batch = most
    while batch > 8 and batch * 8 > images:
        batch //= 2
    reason = (
        f"{most} suits {machine}"
        if batch == most
        else f"at least eight steps an epoch from {images:,} images"
    )
    batch = settle("batch_size", batch, reason)
    if batch > images:
        raise TapetumError(f"batch_size is {batch}, but there are only {images} images.")
    a_epoch = max(1, images // batch)
    epochs = min(200, max(20, -(-3000 // a_epoch)))
    if given.get("steps") is None:
        settle("epochs", epochs, f"about {epochs * a_epoch:,} steps, at least 20 epochs, at most 200")
    settle("precision", *precision(gpu))
    settle("workers", cores(), "one a core, to read images")
    return chosen


def image_size(side: int, gpu: bool) -> tuple[int, str]:
    """The images' own size, but no more than the machine trains on in reasonable time."""
    most = 224 if gpu else 64
    for size in (32, 64, 96, 128, 160, 224):
        if size >= min(side, most):
            break
    reason = f"images are about {side} pixels wide"
    return size, reason if side <= most else f"{reason}; {most} suits {'a GPU' if gpu else 'a CPU'}"


def encoder(size: int, method: type[Method], gpu: bool) -> tuple[str, str]:
    """A network that gives what the method needs and that the machine trains in reasonable time."""
    if method.needs == "tokens":
        name = "vit_small_patch16_224" if gpu else "vit_mini"
        return name, f"{method.__name__} needs tokens"
    if gpu:
        return ("resnet18" if size <= 96 else "resnet50"), f"usual at {size} pixels"
    return "resnet10_w32", "small enough for a CPU"


def precision(gpu: bool) -> tuple[str, str]:
    """bf16 where the hardware computes in it."""
    if gpu:
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "the GPU has bf16 units") if has else ("fp16", "the GPU has no bf16 units")
    has = any(
        getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return ("bf16", "the CPU has bf16 units") if has else ("fp32", "the CPU has no bf16 units")


def canvas_side(side: int, size: int) -> int:
    """The side of the squares that images are kept as: enough for crops, no more than there is."""
    return min(max(side, size), 2 * size)
