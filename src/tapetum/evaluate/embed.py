"""Writes features, labels and paths into one file that other tools read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tapetum.base.errors import TapetumError, unknown
from tapetum.base.files import replacing
from tapetum.data.open import open_data
from tapetum.data.source import Source
from tapetum.data.tables import pyarrow, text_column
from tapetum.encoders import Encoder, load
from tapetum.features import Extractor, Features

FORMATS = (".npz", ".parquet", ".safetensors")


def embed(
    encoder: str | Path | Encoder,
    data: Any,
    out: str | Path,
    *,
    labels: Any = "auto",
    overwrite: bool = False,
    image_size: int | None = None,
    **settings: Any,
) -> Features:
    """Compute the features of `data` and write them to `out`: .npz, .parquet or .safetensors.

    Rows are sorted by path; those of images that cannot be read are not-a-number. .npz has `features` float32
    [N, D], `paths` text [N], and where there are labels `labels` int64 [N] (-1 = unknown) and `classes` text
    [C]; .parquet has the columns path, features and label (the class's name); .safetensors has paths and
    classes as JSON in its metadata. `settings`: see `Extractor`.

    Raises TapetumError when `out` exists, unless `overwrite`, or ends otherwise.
    """
    out = Path(out)
    if out.suffix not in FORMATS:
        raise unknown("format", out.suffix or out.name, FORMATS)
    if out.exists() and not overwrite:
        raise TapetumError(f"{out} exists already; give another name, or ask to overwrite it.")
    found = Extractor(load(encoder, image_size), **settings).features(open_data(data, labels))
    {".npz": _npz, ".parquet": _parquet, ".safetensors": _safetensors}[out.suffix](out, found)
    return found


def _npz(out: Path, found: Features) -> None:
    arrays = {"features": found.x, "paths": np.array(found.paths)}
    if found.labels is not None:
        arrays |= {"labels": found.labels, "classes": np.array(found.classes)}
    with replacing(out) as path, path.open("wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]


def _safetensors(out: Path, found: Features) -> None:
    tensors, facts = {"features": np.ascontiguousarray(found.x)}, {"paths": json.dumps(found.paths)}
    if found.labels is not None:
        tensors["labels"] = found.labels
        facts["classes"] = json.dumps(found.classes)
    with replacing(out) as path:
        save_file(tensors, path, facts)


def _parquet(out: Path, found: Features) -> None:
    rows = as_table(found.x, found.source)
    with replacing(out) as path:
        pyarrow("parquet").write_table(rows, path)


def as_table(x: np.ndarray, source: Source) -> Any:
    """Features [N, D] and their images as a table: path, features, and label where there are labels."""
    pa = pyarrow("lib")
    flat = pa.array(np.asarray(x).reshape(-1))
    columns = {
        "path": text_column(source.paths),
        "features": pa.FixedSizeListArray.from_arrays(flat, x.shape[1]),
    }
    if source.labels is not None:
        columns["label"] = text_column(source.label_names())
    return pa.Table.from_pydict(columns)
