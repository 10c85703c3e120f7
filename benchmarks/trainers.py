"""Training steps to be timed, each kind in a process of its own: ours, and lightly's example."""

import math
import multiprocessing
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tapetum import cli, encoders, verbs
from tapetum.base.errors import TapetumError
from tapetum.data import open_data
from tapetum.train import config, defaults, setup
from tapetum.train.feed import Feed
from tapetum.train.loop import fit
from tapetum.views import Batch

Measures = dict[str, Callable[[], float]]  # each trains some steps and gives images a second


class Apart:
    """A process that makes measures and takes them when asked: its memory and threads are its own."""

    def __init__(self, make: Callable[..., tuple[Measures, str]], **given: Any):
        spawn = multiprocessing.get_context("spawn")
        self.pipe, other = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(other, make, given))
        self.process.start()
        other.close()
        self.settings: str = self.pipe.recv()

    def measure(self, name: str) -> Callable[[], float]:
        """The measure of this name."""

        def ask() -> float:
            self.pipe.send(name)
            return self.pipe.recv()

        return ask

    def __enter__(self) -> "Apart":
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.send(None)
        self.process.join()


def _serve(pipe: Any, make: Callable[..., tuple[Measures, str]], given: dict[str, Any]) -> None:
    measures, settings = make(**given)
    pipe.send(settings)
    while (name := pipe.recv()) is not None:
        pipe.send(measures[name]())


# ---- ours ----


class Ready:
    """A feed whose batches were made beforehand: some, given again and again."""

    def __init__(self, feed: Feed, count: int = 4):
        self.made = list(feed.batches(0, count))
        self.steps_per_epoch, self.whole, self.micro_batch = (
            feed.steps_per_epoch,
            feed.whole,
            feed.micro_batch,
        )

    def batches(self, start: int, steps: int) -> Iterator[Batch]:
        """As `Feed.batches`."""
        return islice(cycle(self.made), steps - start)


def ours(
    data: str, images: int | None, threads: int, steps: int, recipe: Path | None, **given: Any
) -> tuple[Measures, str]:
    """Steps of a run with "data" and views, and of the same run on tensors made "ready"."""
    torch.set_num_threads(threads)
    source = setup.source_of(data, "auto", None)
    job = prepared(source.take(range(min(images or len(source), len(source)))), recipe, **given)
    batch = job.config["batch_size"]

    def measure(feed: Any) -> Callable[[], float]:
        trained = fit(
            job.method,
            job.optimizer,
            feed,
            steps=10**9,
            set_rates=job.set_rates,
            precision=job.config["precision"],
            clip=job.settings.clip,
        )

        def measured() -> float:
            began = time.perf_counter()
            for _ in range(steps):
                next(trained)
            return steps * batch / (time.perf_counter() - began)

        return measured

    return {"data": measure(job.feed), "ready": measure(Ready(job.feed))}, ""


def prepared(source: Any, recipe: Path | None, **given: Any) -> setup.Job:
    """A run as `tapetum pretrain` prepares it."""
    own, groups = config.split(config.read(recipe)) if recipe else ({}, {})
    filled = dict.fromkeys(cli.parameters(verbs.VERBS["pretrain"])) | defaults.PLAIN | own
    filled |= {"data": source, **given}
    return setup.prepare(filled, config.parsed(groups, filled["method"]), quiet=True)


# ---- lightly's example ----


class SimCLR(nn.Module):
    """Our recipe's backbone with lightly's projection head."""

    def __init__(self, recipe: Path):
        super().__init__()
        from lightly.models.modules import SimCLRProjectionHead

        own, groups = config.split(config.read(recipe))
        groups = config.parsed(groups, own["method"])
        encoder = encoders.build(own["encoder"], own["image_size"], **groups["encoder"])
        self.backbone = encoder.net
        self.head = SimCLRProjectionHead(
            encoder.dim, groups["method"].get("hidden", 2048), groups["method"].get("dim", 128)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))


class Example:
    """lightly's example for SimCLR: its loss, its optimiser, its plain loop."""

    def __init__(self, folder: str, recipe: Path, batch: int, tuned: bool):
        from lightly.data import LightlyDataset
        from lightly.loss import NTXentLoss
        from lightly.transforms import SimCLRTransform

        self.data = LightlyDataset(folder, transform=SimCLRTransform(input_size=32))
        self.model, self.criterion, self.batch, self.tuned = SimCLR(recipe), NTXentLoss(), batch, tuned
        if tuned:
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.06)

    def rate(self, workers: int, steps: int) -> float:
        """Images a second, once the workers are in step. They come and go with the measurement, so that none
        reads ahead in somebody else's turn."""
        loader = torch.utils.data.DataLoader(
            self.data,
            batch_size=self.batch,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,  # Linux's default, but not in this process
        )
        warm = workers + 1  # each worker brings its first batch
        steps = math.ceil(steps / max(1, workers)) * max(1, workers)  # and all of them equally many
        if len(loader) < warm + steps:
            raise TapetumError(f"lightly's example needs {(warm + steps) * self.batch:,} images.")
        batches = iter(loader)
        for _ in range(warm):
            self.step(*next(batches)[0])
        began = time.perf_counter()
        for _ in range(steps):
            self.step(*next(batches)[0])
        return steps * self.batch / (time.perf_counter() - began)

    def step(self, x0: torch.Tensor, x1: torch.Tensor) -> None:
        """One step on two views of each image."""
        if self.tuned:
            x0, x1 = (x.to(memory_format=torch.channels_last) for x in (x0, x1))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.tuned):
            z0, z1 = self.model(x0), self.model(x1)
        loss = self.criterion(z0.float(), z1.float())
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def lightly(
    folder: str, recipe: Path, batch: int, steps: int, threads: int, workers: int | None
) -> tuple[Measures, str]:
    """lightly's example as it is with this many workers; with None in our precision and memory format and
    with what is fastest here of several numbers of workers and threads."""
    torch.set_num_threads(threads)
    example = Example(folder, recipe, batch, tuned=workers is None)
    if workers is not None:
        return {"data": lambda: example.rate(workers, steps)}, f"{workers} workers"

    def rate(workers: int, threads: int, steps: int) -> float:
        torch.set_num_threads(threads)
        return example.rate(workers, steps)

    half = max(1, threads // 2)
    choices = [(0, threads), (half, threads), (threads, threads), (half, half), (threads, half)]
    tried = {choice: rate(*choice, max(1, steps // 2)) for choice in dict.fromkeys(choices)}
    best = max(tried, key=lambda choice: tried[choice])
    listed = ", ".join(f"{w} and {t}: {value:,.0f}" for (w, t), value in tried.items())
    settings = f"{best[0]} workers and {best[1]} threads, the best of {listed} images a second"
    return {"data": lambda: rate(*best, steps)}, settings


def unpacked(data: str, images: int, folder: Path) -> None:
    """Write images of a source into class folders, the same number of each class, as they lie in it."""
    source = open_data(data)
    names = source.label_names()
    for i in range(0, len(source), max(1, len(source) // images)):
        file = folder / (names[i] or "none") / f"{i:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source.store.content(source.keys[i]))
