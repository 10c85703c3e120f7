"""Writes features, labels and paths into one file that other tools read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tapetum.base.errors import TapetumError, unknown
from tapetum.base.files import replacing
from tapetum.data.open import open_data
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
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise TapetumError("Parquet needs pyarrow: pip install 'tapetum[data]'; or write .npz.") from None
    flat = pa.array(np.asarray(found.x).reshape(-1))
    columns = {
        "path": pa.array(found.paths),
        "features": pa.FixedSizeListArray.from_arrays(flat, found.x.shape[1]),
    }
    if found.labels is not None:
        columns["label"] = pa.array(found.source.label_names(), pa.string())
    with replacing(out) as path:
        parquet.write_table(pa.table(columns), path)
