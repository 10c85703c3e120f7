"""Features are computed once: a store on the disk, named by what went into them."""

import os
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tapetum.base.console import Progress
from tapetum.base.errors import TapetumError, unknown
from tapetum.base.files import cache_dir, read_json, replacing, write_json
from tapetum.base.memory import keep_freed
from tapetum.base.threads import read_ahead
from tapetum.data.decode import Damaged
from tapetum.data.source import Source
from tapetum.encoders import Encoder
from tapetum.evaluate.result import short_id

EXTRACTOR_VERSION = 1  # raise it when the same encoder and images would give other features than before
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Features:
    """Stored features and the images that they belong to, in the order of the paths.

    x: float32 [N, D], mapped from the disk; rows of images that cannot be read are not-a-number.
    source: the images, row by row.
    subject: what computed them.
    damaged: {row: reason}.
    """

    x: np.ndarray
    source: Source
    subject: dict[str, Any]
    damaged: dict[int, str]

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labels(self) -> np.ndarray | None:
        """int64 [N], -1 = unknown; None without labels."""
        return self.source.labels

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes; None without labels."""
        return self.source.classes

    @property
    def paths(self) -> list[str]:
        """Relative path of every row."""
        return self.source.paths

    @cached_property
    def data(self) -> str:
        """The fingerprint of images and labels."""
        return self.source.fingerprint()

    def take(self, rows: np.ndarray) -> "Features":
        """These rows [n] alone."""
        damaged = {at: self.damaged[row] for at, row in enumerate(rows.tolist()) if row in self.damaged}
        return Features(self.x[rows], self.source.take(rows), self.subject, damaged)


def subject(encoder: Encoder, precision: Precision = "float32") -> dict[str, Any]:
    """The facts that decide an encoder's features, and nothing else."""
    spec = encoder.spec
    shape = (
        {"model": spec.model, "args": spec.args, "stem": spec.stem} if spec.model else {"module": spec.name}
    )
    return {
        "encoder": shape,
        "weights": encoder.digest(),
        "preprocessing": spec.preprocessing(),
        "layer": "last",
        "pooling": "vector",
        "precision": precision,
    }


def in_order(source: Source) -> Source:
    """The same images sorted by path, as the fingerprint sorts them: one content, one order of rows."""
    names = [unicodedata.normalize("NFC", path).encode(errors="surrogateescape") for path in source.paths]
    order = sorted(range(len(names)), key=names.__getitem__)
    return source if order == list(range(len(order))) else source.take(order)


def features(
    encoder: Encoder,
    source: Source,
    *,
    batch_size: int = 256,
    precision: Precision = "float32",
    device: str | torch.device | None = None,
    workers: int | None = None,
) -> Features:
    """The features of all images, from the store, where they are put first if need be.

    Args:
        encoder: it is left as it was.
        source: from `open_data`; labels are not needed.
        batch_size: images in one forward pass.
        precision: "float32", or "bfloat16" for a forward pass in mixed precision; part of the key.
        device: by default a GPU where there is one.
        workers: threads that decode; by default one per processor, at most 8.

    Raises TapetumError when no image can be read or features are not finite.
    """
    if precision not in ("float32", "bfloat16"):
        raise unknown("precision", precision, ("float32", "bfloat16"))
    source = in_order(source).formed(encoder.spec.form)
    about = subject(encoder, precision)
    contents = source.without_labels().fingerprint()
    key = short_id({"subject": about, "data": contents, "extractor": EXTRACTOR_VERSION})
    file = cache_dir() / "features" / f"{key}.npy"
    found = _stored(file, len(source), encoder.dim)
    if found is None:
        settings: dict[str, Any] = {"batch_size": batch_size, "precision": precision, "workers": workers}
        damaged = _fill(file, encoder, source, device=device, **settings)
        rows = [{"row": row, "path": source.paths[row], "reason": why} for row, why in damaged.items()]
        write_json(file.with_suffix(".json"), {"subject": about, "data": contents, "damaged": rows})
        found = _stored(file, len(source), encoder.dim)
        assert found is not None, "features that were just written can be read"
    x, damaged = found
    if len(damaged) == len(source):
        raise TapetumError(f"none of the {len(source):,} images of {source.name} can be read: {damaged[0]}.")
    return Features(x, source, about, damaged)


def _stored(file: Path, n: int, dim: int) -> tuple[np.ndarray, dict[int, str]] | None:
    """What lies in the store, or None when there is nothing whole; the JSON is written last."""
    try:
        x = np.load(file, mmap_mode="r")
        about = read_json(file.with_suffix(".json"))
        damaged = {row["row"]: row["reason"] for row in about["damaged"]}
    except (OSError, ValueError, KeyError, TypeError, TapetumError):
        return None
    return (x, damaged) if x.shape == (n, dim) and x.dtype == np.float32 else None


def _device(name: str | torch.device | None) -> torch.device:
    """A device that is there; by default a GPU where there is one."""
    try:
        where = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        raise TapetumError(f"there is no device {str(name)!r} here; cpu is everywhere.") from error
    return where


def _fill(
    file: Path,
    encoder: Encoder,
    source: Source,
    *,
    batch_size: int,
    precision: Precision,
    device: str | torch.device | None,
    workers: int | None,
) -> dict[int, str]:
    """Compute all features into `file`, by plain writes (a full disk under a map kills the process)."""
    keep_freed()
    where = _device(device)
    was, home = encoder.training, encoder.mean.device
    damaged: dict[int, str] = {}
    encoder.eval().to(where)
    try:
        with (
            replacing(file) as temporary,
            temporary.open("wb") as out,
            Progress(len(source), "features") as bar,
        ):
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(source), encoder.dim)}
            np.lib.format.write_array_header_1_0(out, header)
            for pixels, rows, bad in _batches(encoder, source, batch_size, workers):
                x = np.full((len(rows) + len(bad), encoder.dim), np.nan, dtype="<f4")
                start = min([*rows, *bad])
                if rows:
                    x[[row - start for row in rows]] = _forward(encoder, pixels.to(where), precision)
                    if not np.isfinite(x[[row - start for row in rows]]).all():
                        raise TapetumError(f"{encoder.name} gives features that are not finite numbers.")
                damaged |= bad
                out.write(x.tobytes())
                bar.advance(len(x))
    finally:
        encoder.train(was).to(home)
    return damaged


@torch.inference_mode()
def _forward(encoder: Encoder, pixels: Tensor, precision: Precision) -> np.ndarray:
    """uint8 [B, 3, S, S] -> float32 [B, D]."""
    x = pixels.float().div_(255).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return encoder(x).float().cpu().numpy()


def _batches(
    encoder: Encoder, source: Source, size: int, workers: int | None
) -> Iterator[tuple[Tensor, list[int], dict[int, str]]]:
    """Prepared images [b, 3, S, S] uint8 with their rows, and the rows that cannot be read; decoded ahead."""

    def load(start: int) -> tuple[Tensor, list[int], dict[int, str]]:
        ready, rows, bad = [], [], {}
        for row in range(start, min(start + size, len(source))):
            try:
                ready.append(encoder.prepare(source.read(row)))
                rows.append(row)
            except Damaged as error:
                bad[row] = str(error)
        return torch.from_numpy(np.stack(ready)) if ready else torch.empty(0), rows, bad

    threads = workers or min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)
    with ThreadPoolExecutor(threads) as pool:
        yield from read_ahead(pool, load, range(0, len(source), size), threads)
