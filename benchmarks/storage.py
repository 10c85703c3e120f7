"""What does an image take: as it came, packed, and in the memory of the process that lists it?

    python -m benchmarks.storage          # a minute or two; the rows are kept
    python -m benchmarks.storage --dry    # only print

Needs imagenet-samples.zip in the folder that TAPETUM_DATA names. docs/billion.md is computed from these rows.
"""

import contextlib
import io
import tarfile
import tempfile
import time
import tracemalloc
from functools import partial
from pathlib import Path

from benchmarks import rows
from tapetum.data import open_data
from tapetum.data.pack import pack

SIDE, LISTED = 256, 100_000


def photographs(folder: Path) -> dict:
    """Bytes of a photograph as it is and packed, and how many a second are packed."""
    source = open_data(rows.data("imagenet-samples.zip"))
    row = {"task": "photographs", "images": len(source), "side": SIDE}
    row["original"] = round(sum(len(source.store.content(key)) for key in source.keys) / len(source))
    for form in ("jpeg", "raw"):
        file, began = folder / f"{form}.pack", time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            pack(rows.data("imagenet-samples.zip"), out=str(file), size=SIDE, format=form, workers=1)
        row[f"{form}_per_second"] = round(len(source) / (time.perf_counter() - began), 1)
        row[form] = round(file.stat().st_size / len(source))
    return row


def listing(folder: Path) -> dict:
    """Bytes of memory that a listed image of a WebDataset shard takes, and how many are listed a second."""
    with tarfile.open(folder / "a.tar", "w") as out:
        for i in range(LISTED):
            for kind in ("jpg", "cls"):
                info = tarfile.TarInfo(f"{i:012d}.{kind}")
                info.size = 1
                out.addfile(info, io.BytesIO(b"0"))
    began = time.perf_counter()
    open_data(folder / "a.tar")
    seconds = time.perf_counter() - began
    tracemalloc.start()
    source = open_data(folder / "a.tar")
    memory = tracemalloc.get_traced_memory()[0] / len(source)
    tracemalloc.stop()
    return {
        "task": "listing",
        "images": LISTED,
        "memory": round(memory),
        "per_second": round(LISTED / seconds),
    }


def main() -> None:
    given = rows.measuring(__doc__).parse_args()
    for part in (photographs, listing):
        with tempfile.TemporaryDirectory() as folder:
            row = part(Path(folder)) | rows.facts(("pillow", "simplejpeg"))
        print(row, flush=True)
        rows.finish(given, row, partial(rows.keep, rows.RESULTS / "storage.jsonl"))


if __name__ == "__main__":
    main()
