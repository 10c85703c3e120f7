"""Writes what a classifier says of every image of a data set into a table."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tapetum.adapt.classifier import Classifier, Predictions
from tapetum.base.console import say, table
from tapetum.base.errors import TapetumError, unknown
from tapetum.base.files import replacing
from tapetum.data.open import open_data
from tapetum.data.tables import pyarrow, spelt, text_column
from tapetum.evaluate.answers import Answers
from tapetum.features import Extractor, Features
from tapetum.measure.calibration import expected_error

Columns = dict[str, list[Any]]


def predict(
    classifier: str | Path | Classifier,
    data: Any,
    out: str | Path,
    *,
    labels: Any = "none",
    split: str | None = None,
    probabilities: bool = False,
    overwrite: bool = False,
    batch_size: int = 256,
    device: str | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Write a row for each image, sorted by path, to `out`: .csv, .jsonl or .parquet.

    Columns: path; class, the likeliest ("" of what cannot be read); probability, of that class; unlike, true
    where the image is unlike anything in training; reason, why it cannot be read; with labels, label; with
    `probabilities`, p(CLASS) of each class.

    Args:
        classifier: a folder, or a Classifier.
        data, split: see `open_data`.
        labels: with others than "none", the accuracy is said.
        overwrite: replace a file that exists.
        batch_size, device, workers: how features are computed; the store keeps them.

    Returns counts, and where there are labels the accuracy. Raises TapetumError when `out` exists or ends
    otherwise, when the classifier is damaged, and when no image can be read.
    """
    out = Path(out)
    if out.suffix not in WRITERS:
        raise unknown("format", out.suffix or out.name, WRITERS)
    if out.exists() and not overwrite:
        raise TapetumError(f"{out} exists already; give another name, or ask to overwrite it.")
    made = classifier if isinstance(classifier, Classifier) else Classifier.load(classifier)
    source = open_data(data, labels, split)
    say(f"{source.name}: {source.summary()}")
    extractor = Extractor(
        made.encoder, precision=made.precision, batch_size=batch_size, device=device, workers=workers
    )
    stored = extractor.features(source)
    said = made.of_features(stored.x)
    with replacing(out) as path:
        WRITERS[out.suffix](path, columns(stored, said, probabilities))
    found = {"out": str(out), **counted(stored, said)}
    if stored.labels is not None and (stored.labels >= 0).any():
        found |= judged(stored, said)
    elif labels != "none":
        say(f"{source.name} has no labels, so the accuracy is not known")
    say(f"wrote {out}")
    return found


def columns(stored: Features, said: Predictions, probabilities: bool) -> Columns:
    """What is written, column by column; None stands for nothing."""
    there = said.there.tolist()
    found: Columns = {
        "path": list(stored.paths),
        "class": [name or None for name in said.names],
        "probability": [p if ok else None for p, ok in zip(said.probability.tolist(), there)],
        "unlike": [None] * len(there),
        "reason": [stored.damaged.get(row) for row in range(len(there))],
    }
    if said.unlike is not None:
        found["unlike"] = [far if ok else None for far, ok in zip(said.unlike.tolist(), there)]
    if stored.labels is not None:
        found["label"] = stored.source.label_names()
    if probabilities:
        for name, column in zip(said.classes, said.probabilities.T.tolist()):
            found[f"p({name})"] = [p if ok else None for p, ok in zip(column, there)]
    return found


def counted(stored: Features, said: Predictions) -> dict[str, Any]:
    """Say how many images each class has, how many are unlike training, and how many cannot be read."""
    names = np.array(said.names)
    counts = {name: int((names == name).sum()) for name in said.classes}
    table(
        [(name, f"{n:,}") for name, n in sorted(counts.items(), key=lambda c: -c[1])[:40] if n],
        ("class", "images"),
    )
    found: dict[str, Any] = {"images": len(stored), "classes": counts, "unreadable": len(stored.damaged)}
    if said.unlike is None:
        say("this classifier cannot tell what is unlike its training images: it had too few")
    else:
        found["unlike"] = int(said.unlike.sum())
        readable = len(stored) - len(stored.damaged)
        say(f"{found['unlike']:,} of {readable:,} images are unlike anything in training")
    if stored.damaged:
        row, reason = next(iter(stored.damaged.items()))
        say(f"{len(stored.damaged):,} images cannot be read; the first, {stored.paths[row]}: {reason}")
    return found


def judged(stored: Features, said: Predictions) -> dict[str, Any]:
    """Say how many of the images with a label are classified rightly; classes that are new count as wrong."""
    names = stored.source.label_names()
    rows = np.array([row for row, name in enumerate(names) if name and said.there[row]])
    if not len(rows):
        return {}
    truth, answers = np.array(names)[rows], np.array(said.names)[rows]
    right = truth == answers
    kept = Answers("mean", right.astype(np.float64)[None], np.zeros(len(rows)), rows)
    value, error, interval, kind = kept.summary()
    confidence = torch.from_numpy(said.probability[rows])
    found: dict[str, Any] = {
        "accuracy": value,
        "error_bar": error,
        "interval": list(interval),
        "calibration error": expected_error(confidence, torch.from_numpy(right)),
    }
    say(
        f"accuracy {value:.3f} on {len(rows):,} images, 95 % interval {interval[0]:.3f} to {interval[1]:.3f} "
        f"({kind}); expected calibration error {found['calibration error']:.3f}"
    )
    new = ~np.isin(truth, said.classes)
    if new.any():
        shown = ", ".join(sorted(set(truth[new].tolist()))[:10])
        flagged = "" if said.unlike is None else f"; {said.unlike[rows[new]].mean():.0%} of them are flagged"
        say(f"{int(new.sum()):,} images of classes that it does not know count as wrong ({shown}){flagged}")
        found["unknown classes"] = int(new.sum())
    return found


def _csv(path: Path, found: Columns) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(found)
        writer.writerows([_cell(value) for value in row] for row in zip(*found.values()))


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else value


def _jsonl(path: Path, found: Columns) -> None:
    with path.open("w", encoding="utf-8") as handle:
        for row in zip(*found.values()):
            handle.write(json.dumps(dict(zip(found, row))) + "\n")


def _parquet(path: Path, found: Columns) -> None:
    pa = pyarrow("lib")
    kinds = {"probability": pa.float64(), "unlike": pa.bool_()}

    def column(name: str, values: Sequence[Any]) -> Any:
        kind = kinds.get(name, pa.float64() if name.startswith("p(") else None)
        return text_column(values) if kind is None else pa.array(values, kind)

    columns = {spelt(name): column(name, values) for name, values in found.items()}
    pyarrow("parquet").write_table(pa.table(columns), path)


WRITERS: dict[str, Callable[[Path, Columns], None]] = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
