"""How fast are views? Ours against what the field uses, in one run, on the same images.

    python -m benchmarks.views                  # all parts, some minutes; the rows are kept
    python -m benchmarks.views --only 32,224    # some of them: 32, 32-blur, 224, gpu
    python -m benchmarks.views --dry            # only print

On a CPU everything runs in one process on one core. Whoever is installed takes part; `pip install '.[bench]'`
brings all. Needs cifar10.zip and imagenet-samples.zip in the folder that TAPETUM_DATA names. The machine
should be idle, but what disturbs falls on all.
"""

import argparse
import contextlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks import rows, speed
from benchmarks.contenders import MEAN, PACKAGES, STD, Contender, Policy, contenders
from tapetum import views
from tapetum.data import open_data
from tapetum.data.canvas import Canvas
from tapetum.encoders.prepare import normalised
from tapetum.train import defaults

SMALL = Policy(32, (0.2, 1.0), (0.4, 0.4, 0.4, 0.1), 0.0, normalise=False)
POLICIES = {
    "32": SMALL,
    "32-blur": Policy(32, SMALL.scale, SMALL.jitter, 0.5, normalise=False),
    "224": Policy(224, (0.08, 1.0), (0.8, 0.8, 0.8, 0.2), 0.5, normalise=True),
    "gpu": Policy(224, (0.08, 1.0), (0.8, 0.8, 0.8, 0.2), 0.5, normalise=True),
}
JPEG_SIZE, QUALITY = (500, 375), 90
SHORTEST = 0.3  # seconds that one measurement takes at least
Pass = Callable[[], int]  # goes over all images once, gives how many views it made
Field = tuple[dict[str, Pass], dict[str, str]]  # who takes part, and why others do not


class Rate:
    """Views a second of a pass, repeated until it takes long enough to be timed."""

    def __init__(self, once: Pass):
        self.once, self.times = once, 0

    def __call__(self) -> float:
        if not self.times:
            self.once()  # compiles, fills caches
            began = time.perf_counter()
            self.once()
            self.times = math.ceil(SHORTEST / (time.perf_counter() - began))
        began = time.perf_counter()
        made = sum(self.once() for _ in range(self.times))
        return made / (time.perf_counter() - began)


def ours(policy: Policy, canvas: Canvas, batch: int, device: str) -> Pass:
    """Our views of a canvas, normalised as an encoder does it."""
    view = views.Crop(scale=policy.scale) + views.Flip() + views.Jitter(*policy.jitter) + views.Gray()
    view += views.Blur(policy.blur)
    mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (MEAN, STD))
    batches = torch.arange(len(canvas)).split(batch)
    epoch = 0

    def once() -> int:
        nonlocal epoch
        epoch += 1
        made = 0
        for index, (pixels, size) in zip(batches, canvas.iterate(batches)):
            rng = views.Draw(0, epoch, 0, index)
            both, _ = views.draw([view, view], pixels.to(device), size, rng, policy.size)
            for x in both:
                x = normalised(x, mean, std) if policy.normalise else x
                made += check(x, policy)
        finished(device)
        return made

    return once


def theirs(policy: Policy, one: Contender, images: list, device: str, read: Callable | None = None) -> Pass:
    """A contender's views of images in the form that it takes, or of files that it reads."""

    def once() -> int:
        made = 0
        for start in range(0, len(images), one.batch):
            part = images[start : start + one.batch]
            made += check(one.views(list(map(read, part)) if read else part), policy)
        finished(device)
        return made

    return once


def check(x: torch.Tensor, policy: Policy) -> int:
    """How many views these are; a contender that makes others than asked is no contender."""
    assert x.shape[1:] == (3, policy.size, policy.size) and x.dtype == torch.float32, (x.shape, x.dtype)
    return len(x)


def finished(device: str) -> None:
    """Wait for what a GPU still computes."""
    if device != "cpu":
        torch.cuda.synchronize()


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """This process, with all threads and processes that it starts, on one core."""
    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {max(allowed)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(threads)


def decoded(name: str, images: int, size: tuple[int, int] | None = None) -> list[np.ndarray]:
    """Images of an archive, evenly spread, as uint8 [H, W, 3]; cut and resized to a (width, height)."""
    source = open_data(rows.data(name))
    at = np.linspace(0, len(source) - 1, min(images, len(source))).round().astype(int)
    pixels = [source.read(int(i)) for i in at]
    if size is None:
        return pixels
    how = Image.Resampling.BICUBIC
    return [np.asarray(ImageOps.fit(Image.fromarray(image), size, how)) for image in pixels]


def jpegs(folder: Path, images: int) -> list[Path]:
    """The photographs, written anew into a folder."""
    files = []
    for i, pixels in enumerate(decoded("imagenet-samples.zip", images, JPEG_SIZE)):
        files.append(folder / f"{i:03d}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=QUALITY)
    return files


def from_memory(
    policy: Policy, name: str, images: int, device: str
) -> tuple[dict[str, Pass], dict[str, str]]:
    """Everybody's pass over decoded images, and who is missing."""
    pixels = decoded(name, images, None if policy.size < 64 else JPEG_SIZE)
    source = open_data(np.stack(pixels))
    side = defaults.canvas_side(defaults.typical_side(source), policy.size)
    passes = {speed.OURS: ours(policy, Canvas(source, side, workers=0).to(device), 256, device)}
    found, missing = contenders(policy, device)
    for who, one in found.items():
        passes[who] = theirs(policy, one, [one.take(image) for image in pixels], device)
    return passes, missing


def from_files(policy: Policy, files: list[Path]) -> Field:
    """Everybody's pass over JPEG files, and who is missing."""
    source = open_data(files[0].parent)
    side = defaults.canvas_side(defaults.typical_side(source), policy.size)
    passes = {speed.OURS: ours(policy, Canvas(source, side, memory_limit=0, workers=1), 48, "cpu")}
    found, missing = contenders(policy)
    for who, one in found.items():
        passes[who] = theirs(policy, one, files, "cpu", one.read)
    return passes, missing


def measure(task: str, asked: argparse.Namespace) -> None:
    """One part: measure, show, keep."""
    policy, device = POLICIES[task], "cuda" if task == "gpu" else "cpu"
    core = one_core() if device == "cpu" else contextlib.nullcontext()
    with core, tempfile.TemporaryDirectory() as folder:
        if task == "224":
            passes, missing = from_files(policy, jpegs(Path(folder), asked.images or 250))
        else:
            name, count = ("cifar10.zip", 1024) if policy.size < 64 else ("imagenet-samples.zip", 250)
            passes, missing = from_memory(policy, name, asked.images or count, device)
        rates = rows.in_turn({who: Rate(once) for who, once in passes.items()}, asked.rounds)
        facts = rows.facts(PACKAGES)
    if device != "cpu":
        facts["machine"] += f", {torch.cuda.get_device_name()}"
    row = {"task": task, "rates": rates, "missing": missing, **facts}
    print("\n".join([f"\n{speed.TASKS[task].title}", *speed.table(task, row)]), flush=True)
    for who, why in missing.items():
        print(f"missing: {who} ({why})", flush=True)
    rows.finish(asked, row, speed.keep)


def main(arguments: list[str] | None = None) -> None:
    """Measure the parts that are asked for."""
    parser = rows.measuring(__doc__, POLICIES, rounds=5)
    parser.add_argument("--images", type=int, help="how many images [1,024 small ones, 250 photographs]")
    asked = parser.parse_args(arguments)
    for part in rows.chosen(asked.only, POLICIES):
        if part == "gpu" and not torch.cuda.is_available():
            print("\ngpu: there is no GPU here, so nothing was measured on one.")
        else:
            measure(part, asked)


if __name__ == "__main__":
    main()
