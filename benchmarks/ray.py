"""Does a Ray cluster that loses a worker give the features that one machine gives? CIFAR-10, two workers.

    python -m benchmarks.ray          # some minutes; the row is kept
    python -m benchmarks.ray --dry    # only print

Embeds the 50,000 training images of cifar10.zip (in the folder that TAPETUM_DATA names) in this process, and
by two workers of a cluster on this machine, of which one is killed with SIGKILL when half of the parts are
there. Rows, order, labels and every bit of the features are compared. One thread each. Needs tapetum[ray].
"""

import os
import signal
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import rows
from tapetum.base.errors import TapetumError
from tapetum.encoders import build
from tapetum.evaluate import embed, spread
from tapetum.evaluate.written import file_of, written

MODEL, SIDE, BATCH = "resnet10_w32", 32, 256


def killer(out: Path, parts: int, killed: list[int]) -> None:
    """Kill the worker that wrote last as soon as half of the parts are there."""
    while not killed:
        said = [found for number in range(parts) if (found := written(file_of(out, number)))]
        if len(said) >= parts // 2:
            killed.append(max(said, key=lambda row: row["number"])["process"])
            os.kill(killed[0], signal.SIGKILL)
        time.sleep(0.05)


def read(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """Paths, labels and features [N, D] of a Parquet file or of a folder of parts."""
    from pyarrow import parquet

    found = parquet.read_table(path)
    x = found.column("features").combine_chunks().values.to_numpy().reshape(len(found), -1)
    return found.column("path").to_pylist(), found.column("label").to_pylist(), x


def measured(folder: Path) -> dict:
    """The row."""
    os.environ["TAPETUM_CACHE"] = str(folder / "cache")
    data = f"{rows.data('cifar10.zip')}/train"
    encoder = build(MODEL, SIDE).eval()
    began = time.perf_counter()
    embed.embed(encoder, data, folder / "one.parquet", batch_size=BATCH)
    local = time.perf_counter() - began
    one = read(folder / "one.parquet")
    ray = spread.library()
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    ray.init(address="local", num_cpus=2, object_store_memory=2**28, **quiet)
    killed: list[int] = []
    out = folder / "parts"
    parts = -(-len(one[0]) // (spread.PART // BATCH * BATCH))
    try:
        threading.Thread(target=killer, args=(out, parts, killed), daemon=True).start()
        said = spread.embed(encoder, data, out, batch_size=BATCH)
    finally:
        killed.append(0)
        ray.shutdown()
    if not killed[0]:
        raise TapetumError("all was done before a worker could be killed; nothing is proven.")
    many = read(out)
    return {
        "task": "embed",
        "images": len(many[0]),
        "dim": many[2].shape[1],
        "parts": said["parts"],
        "workers": said["workers"],
        "killed": 1,
        "same_rows": one[:2] == many[:2],
        "same_bits": one[2].tobytes() == many[2].tobytes(),
        "largest_difference": float(np.abs(one[2] - many[2]).max()),
        "seconds": round(local, 1),
        "seconds_ray": said["seconds"],
    }


def main() -> None:
    given = rows.measuring(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        row = measured(Path(folder)) | rows.facts(("ray", "pyarrow", "timm"))
    print(row, flush=True)
    rows.finish(given, row, partial(rows.keep, rows.RESULTS / "ray.jsonl"))


if __name__ == "__main__":
    main()
