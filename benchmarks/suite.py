"""How long does the standard suite take on stored features? 50,000 training and 10,000 test vectors of 512.

    python -m benchmarks.suite          # some minutes; the row is kept, and `--dry` only prints it

Vectors are drawn around ten centres, so near to each other that a logistic regression tells nine of ten
rightly. The machine must be idle.
"""

import os
import tempfile
import time
from functools import partial

import numpy as np
import torch

from benchmarks import rows
from tapetum.data import open_data
from tapetum.evaluate import protocols
from tapetum.evaluate.case import Case
from tapetum.evaluate.suites import read
from tapetum.features import Features

ROWS = rows.RESULTS / "suite.jsonl"
CLASSES, WIDTH = 10, 512


def part(count: int, seed: int) -> Features:
    """Vectors as if they had been computed of tiny images, each another."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(99))
    y = torch.randint(CLASSES, (count,), generator=g)
    x = 0.13 * centres[y] + torch.randn(count, WIDTH, generator=g)
    pixels = np.random.default_rng(seed).integers(0, 255, (count, 2, 2, 3), np.uint8)
    names = [f"class {i}" for i in range(CLASSES)]
    source = open_data(pixels, labels="none").with_labels([names[i] for i in y.tolist()], "drawn", names)
    return Features(x.numpy(), source, {"drawn": seed}, {}, source.digests())


def main() -> None:
    given = rows.measuring(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TAPETUM_CACHE"] = cache
        case = Case(part(50_000, 0), part(10_000, 1))
        seconds, values = {}, {}
        for entry in read(["standard"]).entries:
            began = time.perf_counter()
            found = protocols.find(entry.name)(case, **entry.settings)
            seconds[entry.name] = round(time.perf_counter() - began, 1)
            first = found[0] if isinstance(found, list) else found
            values[entry.name] = round(first.value, 4)
            print(entry.name, seconds[entry.name], "s", first.name, first, flush=True)
    row = {"task": "suite", "total": round(sum(seconds.values()), 1), "seconds": seconds, "values": values}
    print(row["total"], "s in all, of 180 that were asked for")
    rows.finish(given, row | rows.facts(("torch",)), partial(rows.keep, ROWS))


if __name__ == "__main__":
    main()
