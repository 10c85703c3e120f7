"""A small world to try a method in: easy images, small encoders, a few steps of training."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from tapetum import encoders
from tapetum.base import distributed
from tapetum.data import Source, open_data
from tapetum.data.canvas import Canvas
from tapetum.methods.method import Method
from tapetum.train import optimizer, setup, sync_norm
from tapetum.train.feed import Feed
from tapetum.train.loop import fit
from tapetum.train.optimizer import OptimizerSettings
from tapetum.views import Batch, nest

SMALL = {
    "hidden": 32,
    "dim": 16,
    "width": 32,
    "depth": 1,
    "prototypes": 24,
    "queue": 64,
    "noise": 16,
    "small_crops": 2,
    "permutations": 8,
}
CLASSES, BATCH = 4, 16


def easy_images(count: int = 64, across: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 32, 32, 3] uint8 whose class is their colour and stripe, and their labels [N].

    The stripes of the last class lie `across`, for methods to which only the direction of edges counts.
    """
    rng = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    colour = np.array([[220, 60, 60], [60, 200, 80], [70, 80, 220], [210, 200, 60]])[labels]
    ramp = np.linspace(0, 1, 32)
    stripes = 0.5 + 0.5 * np.sin(
        2 * np.pi * (2 + labels[:, None, None]) * ramp[None, :, None] + rng.uniform(0, 6, (count, 1, 1))
    )
    images = colour[:, None, None] * (0.3 + 0.7 * (stripes + 0 * ramp)[..., None]) + rng.normal(
        0, 12, (count, 32, 32, 3)
    )
    if across:
        images[labels == 3] = images[labels == 3].swapaxes(1, 2)
    return images.clip(0, 255).astype(np.uint8), labels


def easy_pixels(count: int = 64) -> torch.Tensor:
    """The easy images as an encoder's online look takes them: uint8 [N, 3, 32, 32]."""
    return torch.from_numpy(easy_images(count)[0]).permute(0, 3, 1, 2)


def small_encoder(needs: str, seed: int = 0) -> encoders.Encoder:
    """A small ViT where tokens are needed, else a small ResNet."""
    torch.manual_seed(seed)
    if needs == "tokens":
        return encoders.build("vit_tiny_patch16_224", 32, patch_size=8, embed_dim=32, depth=2, num_heads=2)
    return encoders.build("resnet10_w32", 32, channels=(8, 16, 32, 64))


def small_settings(kind: type[Method]) -> dict[str, int]:
    """Settings of a method that are whole numbers, small."""
    given = inspect.signature(kind).parameters.items()
    return {name: SMALL[name] for name, p in given if name in SMALL and isinstance(p.default, int)}


def build(kind: type[Method], seed: int = 0, data: Source | None = None, **settings: Any) -> Method:
    """A small instance of a method."""
    encoder = small_encoder(kind.needs, seed)
    method = setup.build_method(kind, encoder, data or source(), 32, {**small_settings(kind), **settings})
    if encoder.patch:
        method.views = nest.whole_patches(method.views, 32, encoder.patch)
    return method


def source(count: int = 64) -> Source:
    """The easy images with their labels."""
    images, labels = easy_images(count)
    return open_data(images).with_labels([str(label) for label in labels], "how they were made")


def feed(method: Method, batch: int = BATCH, micro: int | None = None, data: Source | None = None) -> Feed:
    """Batches of the easy images for a method."""
    data = data or source()
    return Feed(
        Canvas(data, 32, workers=0),
        data.labels,
        method.views,
        image_size=32,
        batch_size=batch,
        micro_batch=micro or batch // distributed.world(),
        seed=0,
        device=torch.device("cpu"),
    )


def one_batch(method: Method, step: int = 0) -> Batch:
    """The batch of one step."""
    return next(feed(method).batches(step, step + 1))


def train(
    method: Method,
    steps: int,
    lr: float = 1e-3,
    start: int = 0,
    precision: str = "fp32",
    data: Source | None = None,
    by: str = "adamw",
    before: Callable[[], None] = lambda: None,
) -> list[dict]:
    """Train in place on the easy images, by some optimiser; gives the numbers of each step.

    `before` is called in each step when its gradients stand and no weight has moved.
    """
    settings = OptimizerSettings(name=by, lr=lr, warmup=0.1)  # type: ignore[arg-type]
    opt = optimizer.build(method, settings, lr)
    opt.register_step_pre_hook(lambda *_: before())
    set_rates = lambda t: optimizer.set_rates(opt, method, settings, lr, t)  # noqa: E731
    steps_iterator = fit(
        method,
        opt,
        feed(method, data=data),
        steps=steps,
        start=start,
        set_rates=set_rates,
        clip=3.0,
        precision=precision,
    )
    return [{n: float(v) for n, v in step.numbers.items()} for step in steps_iterator]


def state(method: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all that a method remembers."""
    return {name: t.detach().clone() for name, t in method.state_dict().items()}


def statistics(method: nn.Module) -> set[str]:
    """Names of normalisation statistics, which alone may change in a loss."""
    return {
        f"{name}.{buffer}" if name else buffer
        for name, m in method.named_modules(remove_duplicate=False)
        if isinstance(m, sync_norm.BatchNorm)
        for buffer, _ in m.named_buffers(recurse=False)
    }


def changed(before: dict, after: dict) -> list[str]:
    """Names of what differs in any bit."""
    return [name for name in before if not torch.equal(before[name], after[name])]


def mismatched(batch: Batch, views: Any) -> Batch:
    """The batch with each view after the first, and the labels, taken from another image."""
    count = 0

    def roll(tree: Any) -> Any:
        nonlocal count
        if isinstance(tree, dict):
            return {name: roll(part) for name, part in tree.items()}
        if isinstance(tree, list):
            return [roll(part) for part in tree]
        count += 1
        return tree.roll(count - 1, 0)

    fields = {name: roll(batch[name]) for name in views}
    return Batch({**batch, **fields, "label": batch["label"].roll(1, 0)}, batch.draw, batch.geometry)
