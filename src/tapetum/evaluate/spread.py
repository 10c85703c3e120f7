"""Embeds on a Ray cluster: parts of the images, each written by one worker, whole or not at all."""

import contextlib
import io
import json
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.base.console import Progress, say, table, warn
from tapetum.base.errors import TapetumError
from tapetum.base.files import short_id
from tapetum.data.decode import one_line
from tapetum.data.far import Far
from tapetum.data.fingerprint import fingerprint
from tapetum.data.labels import apply
from tapetum.data.open import open_data
from tapetum.data.place import place
from tapetum.data.shards import open_shards, shards_of
from tapetum.data.source import Source
from tapetum.data.stores import file_stamp
from tapetum.data.tables import pyarrow
from tapetum.encoders import Encoder, load
from tapetum.evaluate.embed import as_table
from tapetum.evaluate.written import SAID, begun, file_of, put, written
from tapetum.features import Extractor, in_order
from tapetum.features.extract import EXTRACTOR_VERSION, subject

PART = 4096  # images of a part, about: whole batches, so that each batch is the one of a single machine
LIVES = 4  # as many times the number of workers may be started: more deaths are not bad luck
_BLOCKS = 4096  # Ray keeps account of at most so many pieces of the work

Place = Path | Far


@dataclass(frozen=True)
class Job:
    """What every worker gets.

    source: all images in the order of their paths, where they are no shards
    shards: else the files, of which each is a part
    rows: images of a part of the source
    settings: of the Extractor
    """

    encoder: Encoder
    source: Source | None
    shards: list[Place]
    labels: Any
    rows: int
    out: Place
    settings: dict[str, Any]

    def __len__(self) -> int:
        return len(self.shards) if self.source is None else -(-len(self.source) // self.rows)

    def part(self, number: int) -> Source:
        """The images of a part."""
        if self.source is not None:
            begin = number * self.rows
            return self.source.take(range(begin, min(begin + self.rows, len(self.source))))
        shard = self.shards[number]
        return in_order(apply(open_shards(shard.name, [shard]), self.labels))

    def facts(self) -> dict[str, Any]:
        """What decides the features and how they are cut into parts."""
        if self.source is None:
            with ThreadPoolExecutor(16) as pool:
                versions = list(pool.map(_version, self.shards))
            data = short_id({"shards": versions, "labels": str(self.labels)})
        else:
            data = fingerprint([b""] * len(self.source), self.source.paths, self.source.label_names())
        how = {"rows": self.rows, "parts": len(self), "batch_size": self.settings["batch_size"]}
        seen = subject(self.encoder, self.settings["precision"])
        return {"subject": seen, "extractor": EXTRACTOR_VERSION, "data": data, "dim": self.encoder.dim} | how


def _version(path: Place) -> str:
    """What tells a shard from others, of the same name and length too."""
    try:
        size = path.stat().st_size
    except (OSError, TapetumError):
        raise TapetumError(f"there is no file {path}.") from None
    return file_stamp(path.absolute()) or f"{path}|{size}"


class Worker:
    """Lives in a process of its own with the encoder, and embeds the parts that it is given."""

    def __init__(self, job: list[Any], births: Any, workers: int):
        """job: its name in Ray's store, in a list so that it is not fetched with every message;
        births: what counts the workers."""
        import ray

        self.job: Job = ray.get(job[0])
        self.extractor = Extractor(self.job.encoder, **self.job.settings)
        self.died = ray.get(births.one_more.remote()) - workers
        self.hopeless = self.died >= (LIVES - 1) * workers

    def __call__(self, parts: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """What there is to say of each part, as JSON: its facts, or {"error": a sentence}."""
        return {"said": [json.dumps(self._said(number)) for number in parts["number"].tolist()]}

    def _said(self, number: int) -> dict[str, Any]:
        if self.hopeless:
            return {"error": f"workers died {self.died} times, of too little memory perhaps."}
        try:
            return written(file_of(self.job.out, number)) or self._write(
                number
            )  # a part done before a death stays
        except TapetumError as error:
            return {"error": str(error)}

    def _write(self, number: int) -> dict[str, Any]:
        began = time.perf_counter()
        source = self.job.part(number)
        x, damaged = self.extractor.computed_and_damaged(source)
        there = np.ones(len(x), dtype=bool)
        there[list(damaged)] = False
        if not np.isfinite(x[there]).all():
            raise TapetumError(f"{self.job.encoder.name} gives features that are not finite numbers.")
        rows = as_table(x, source)
        if self.job.source is None:
            pa, names = pyarrow("lib"), [self.job.shards[number].name] * len(x)
            if source.labels is None and str(self.job.labels) != "none":  # all parts have the same columns
                rows = rows.append_column("label", pa.nulls(len(x), pa.string()))
            rows = rows.append_column("shard", pa.array(names))
        facts = {
            "number": number,
            "images": len(x),
            "damaged": {source.paths[row]: reason for row, reason in damaged.items()},
            "seconds": round(time.perf_counter() - began, 3),
            "process": os.getpid(),
        }
        content = io.BytesIO()
        pyarrow("parquet").write_table(rows.replace_schema_metadata({SAID: json.dumps(facts)}), content)
        put(file_of(self.job.out, number), content.getvalue())
        return facts


def embed(
    encoder: str | Path | Encoder,
    data: Any,
    out: str | Path,
    *,
    labels: Any = "auto",
    split: str | None = None,
    overwrite: bool = False,
    image_size: int | None = None,
    workers: int | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Compute the features of `data` on a Ray cluster and write them to the folder or address `out`.

    Shards (tar, Parquet) are opened by the workers, each a part, in the order of the shards; everything else
    is listed here and cut into parts in the order of its paths, as the local engine has them. A part is a
    Parquet file with the columns path, features float32 [D], label (the class's name, where there are labels)
    and, of shards, shard. Rows of images that cannot be read are not-a-number. A worker that dies is replaced
    and its part done again; parts that are there stay.

    The cluster is that of $RAY_ADDRESS, else one on this machine that ends with this. `workers`: threads that
    read images in each worker; other settings: see `Extractor`.

    Raises TapetumError when `out` holds anything else, unless `overwrite`.
    """
    ray = library()
    main = load(encoder, image_size)
    shards = shards_of(data) if split is None else []
    source = None if len(shards) > 1 else in_order(open_data(data, labels, split))
    settings = {"batch_size": 256, "precision": "float32", **settings, "workers": workers}
    rows = max(1, PART // settings["batch_size"]) * settings["batch_size"]
    job = Job(main, source, shards if source is None else [], labels, rows, place(out), settings)
    found = begun(job.out, len(job), job.facts(), overwrite)
    kept, began = set(found), time.perf_counter()
    todo = [number for number in range(len(job)) if number not in found]
    with Progress(len(job), "embedding", "parts", done=len(kept)) as bar:
        for said in answers(ray, job, todo) if todo else ():
            if "error" in said:
                raise TapetumError(said["error"])
            found[said["number"]] = said
            bar.advance()
    if lost := [number for number in range(len(job)) if number not in found]:
        raise TapetumError(
            f"{len(lost)} parts were not written, the first {file_of(job.out, lost[0])}; run it again."
        )
    return told(job, found, kept, time.perf_counter() - began)


def library() -> Any:
    """Ray, which tells nobody that it is used. Raises TapetumError."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        import ray.data
    except ImportError:
        raise TapetumError("--engine ray needs Ray: pip install 'tapetum[ray]'.") from None
    return ray


class Births:
    """Counts how often a worker was started."""

    def __init__(self) -> None:
        self.count = 0

    def one_more(self) -> int:
        self.count += 1
        return self.count


@contextlib.contextmanager
def cluster(ray: Any) -> Iterator[None]:
    """The cluster that this process belongs to, else that of $RAY_ADDRESS, else one on this machine."""
    if ray.is_initialized():
        yield
        return
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        how |= {"include_dashboard": False, "object_store_memory": 2**30}
    try:
        ray.init(address=address or "local", **how)
    except Exception as error:  # Ray's, grpc's or the system's
        where = f"at {address} ($RAY_ADDRESS)" if address else "on this machine"
        raise TapetumError(f"no Ray cluster can be had {where}: {one_line(error)}.") from error
    try:
        yield
    finally:
        ray.shutdown()


def answers(ray: Any, job: Job, todo: list[int]) -> Iterator[dict[str, Any]]:
    """What the workers say of these parts, in the order in which they are done."""
    context = ray.data.DataContext.get_current()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.enable_progress_bars = context.print_on_execution_start = False
    with cluster(ray):
        have = ray.cluster_resources()
        gpus = int(have.get("GPU", 0))
        count = max(1, min(gpus or int(have.get("CPU", 1)), len(todo)))
        items = [{"number": number} for number in todo]
        done = ray.data.from_items(items, override_num_blocks=min(len(items), _BLOCKS)).map_batches(
            Worker,
            fn_constructor_args=([ray.put(job)], ray.remote(num_cpus=0)(Births).remote(), count),
            batch_size=1,
            num_cpus=1,
            num_gpus=1 if gpus else None,
            compute=ray.data.ActorPoolStrategy(size=count),  # which starts workers anew that die
        )
        try:
            for row in done.iter_rows():
                yield json.loads(row["said"])
        except ray.exceptions.RayError as error:
            raise TapetumError(
                f"the Ray cluster gave up: {one_line(error)}; run it again to go on."
            ) from error


def told(job: Job, found: dict[int, dict[str, Any]], kept: set[int], seconds: float) -> dict[str, Any]:
    """Show and return what came of it."""
    images = sum(said["images"] for said in found.values())
    new = sum(said["images"] for number, said in found.items() if number not in kept)
    damaged = {path: reason for said in found.values() for path, reason in said["damaged"].items()}
    for path, reason in list(damaged.items())[:3]:
        warn(f"{path} cannot be read: {reason}")
    result = {
        "out": str(job.out),
        "images": images,
        "dim": job.encoder.dim,
        "parts": len(found),
        "kept": len(kept),
        "unreadable": len(damaged),
        "workers": len({said["process"] for number, said in found.items() if number not in kept}),
        "seconds": round(seconds, 1),
        "images_per_second": round(new / seconds, 1),
    }
    table([(name.replace("_", " "), value) for name, value in result.items()], ("features", ""))
    say(f"wrote {job.out}: features of {images:,} images, {job.encoder.dim} numbers each")
    return result
