"""Do features come as fast as the encoder's own forward pass? From packed images into the store, and bare.

    python -m benchmarks.extract                  # both parts, some minutes; the rows are kept
    python -m benchmarks.extract --only extract   # one of them: extract-32, extract
    python -m benchmarks.extract --dry            # only print

Needs cifar10.zip and clothing-160.zip in the folder that TAPETUM_DATA names. The machine must be idle.
"""

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import rows, speed
from tapetum.data import open_data
from tapetum.data.pack import pack
from tapetum.encoders import build
from tapetum.features import Extractor

PARTS = {
    "extract-32": ("cifar10.zip", "test", "resnet32_w64", 32),
    "extract": ("clothing-160.zip", "train", "resnet18", 160),
}
BATCH = 256


def contenders(part: str, folder: Path) -> dict[str, Callable[[], float]]:
    """Images a second into an empty store, and of the forward pass alone on one batch that lies ready."""
    name, split, model, side = PARTS[part]
    packed = folder / f"{part}.pack"
    pack(f"{rows.data(name)}/{split}", out=str(packed), size=side, format="raw")
    source = open_data(str(packed))
    extractor = Extractor(build(model, side).eval(), precision="bfloat16", batch_size=BATCH)
    ready = torch.randint(0, 255, (BATCH, 3, side, side), dtype=torch.uint8)
    batches = len(source) // BATCH

    def stored() -> float:
        with tempfile.TemporaryDirectory(dir=folder) as cache, contextlib.redirect_stdout(io.StringIO()):
            os.environ["TAPETUM_CACHE"] = cache
            began = time.perf_counter()
            extractor.features(source)
            return len(source) / (time.perf_counter() - began)

    def bare() -> float:
        began = time.perf_counter()
        for _ in range(batches):
            extractor._forward(ready, torch.zeros(BATCH), "vector", None)
        return batches * BATCH / (time.perf_counter() - began)

    return {speed.OURS: stored, speed.FORWARD: bare}


def main() -> None:
    given = rows.measuring(__doc__, PARTS, rounds=3).parse_args()
    for part in rows.chosen(given.only, PARTS):
        with tempfile.TemporaryDirectory() as folder:
            rates = rows.in_turn(contenders(part, Path(folder)), given.rounds)
        row = {"task": part, "rates": rates, "missing": {}, **rows.facts(("torch", "timm", "numba"))}
        print(row, flush=True)
        rows.finish(given, row, speed.keep)


if __name__ == "__main__":
    main()
