"""Measures an encoder beside its baselines, prints the table and keeps the results."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.base.console import say, table, warn
from tapetum.base.errors import TapetumError, unknown
from tapetum.data.open import open_data
from tapetum.data.source import Source
from tapetum.encoders import Encoder, load
from tapetum.evaluate import baselines as others
from tapetum.evaluate import protocols as known
from tapetum.evaluate.classify import METRICS, Metric
from tapetum.evaluate.result import Result, add_results, read_results
from tapetum.evaluate.split import held_out
from tapetum.evaluate.store import Features, Precision, features, in_order

HELD_OUT = 0.2  # of the images, where there is no test data


def evaluate(
    encoder: str | Path | Encoder,
    train_data: Any,
    test_data: Any = None,
    protocols: Sequence[str] = ("knn", "linear"),
    *,
    labels: Any = "auto",
    metric: Metric = "accuracy",
    labels_per_class: Sequence[int] = (),
    draws: int = 5,
    baselines: bool = True,
    seed: int = 0,
    out: str | Path | None = None,
    image_size: int | None = None,
    batch_size: int = 256,
    precision: Precision = "float32",
    device: str | None = None,
    workers: int | None = None,
) -> list[Result]:
    """Measure an encoder, print a table, and add the results to a file; one result per protocol and subject.

    Args:
        encoder: a run, a folder or file of weights, `timm:NAME`, or an Encoder.
        train_data: what the protocols learn from; of data with splits its training part.
        test_data: what they are scored on; by default the test or validation part of `train_data`, or a fifth
            of it that is held out.
        protocols: files in this folder: "knn", "linear".
        labels: see `open_data`.
        metric: "accuracy", "balanced_accuracy", or "auroc" for two classes.
        labels_per_class: learn from so many labels of each class too; numbers are means over `draws` draws.
        draws: of few labels.
        baselines: measure raw pixels, random weights and the weights that a run began from too.
        seed: of all that is drawn.
        out: a JSON file for the results; by default results.json of the run, where `encoder` is one.
        image_size: for `timm:NAME`, where it shall not be the model's own.
        batch_size, precision, device, workers: how features are computed, see `store.features`.

    Raises TapetumError for unknown names and for data without labels.
    """
    if not (run := [known.find(name) for name in protocols]):
        raise TapetumError("there is nothing to measure with: protocols is empty, such as knn,linear.")
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    if wrong := [count for count in labels_per_class if count < 1]:
        raise TapetumError(f"labels_per_class must be at least 1; it is {wrong[0]}.")
    file = _results_file(encoder, out)
    if file:
        read_results(file)  # a damaged file is found before the work, not after
    train, test, split = parts(train_data, test_data, labels, seed)
    main = load(encoder, image_size)

    found: list[Result] = []
    for row, subject, note in _subjects(main, baselines, seed):
        exact: Precision = "float32" if row == "pixels" else precision
        stored = [
            features(subject, s, batch_size=batch_size, precision=exact, device=device, workers=workers)
            for s in (train, test)
            if s is not None
        ]
        pair = stored if len(stored) == 2 else _cut(stored[0], seed)
        if pair[0].data == pair[1].data:
            raise TapetumError("the test data are the training data; leave them out, and a part is held out.")
        if any(r.subject == pair[1].subject for r in found):
            continue  # the encoder is its own baseline
        results = [
            protocol(*pair, metric=metric, labels_per_class=count, draws=draws, seed=seed, split=split)
            for count in (None, *labels_per_class)
            for protocol in run
        ]
        results = [replace(r, row=row, notes=[*r.notes, *note]) for r in results]
        found += results
        if file:
            add_results(file, results)
    show(found, f"{metric} on {_title(test or train, split)}")
    if file:
        say(f"saved in {file}")
    return found


def _subjects(main: Encoder, baselines: bool, seed: int) -> Iterator[tuple[str, Encoder, list[str]]]:
    """(row of the table, encoder, notes), the encoder itself first."""
    yield "encoder", main, []
    if not baselines:
        return
    try:
        if start := others.start(main):
            yield "start", start, [f"started from {main.spec.began_from}"]
    except TapetumError as error:
        warn(f"the weights that it began from are not measured: {error}")
    if fresh := others.random_weights(main, seed):
        yield "random weights", fresh, [f"random weights drawn with seed {seed}"]
    yield "pixels", others.pixels(main.spec.form), []


def parts(train_data: Any, test_data: Any, labels: Any, seed: int) -> tuple[Source, Source | None, str]:
    """Training images, test images (None: to be held out of the former), and how they were parted."""
    whole = in_order(open_data(train_data, labels))
    parted = "train" in whole.splits
    train = whole.part("train") if parted else whole
    other = whole if test_data is None else open_data(test_data, labels)
    name = next((name for name in ("test", "validation") if name in other.splits), None)
    if test_data is None and not (parted and name):
        test, split = None, f"{HELD_OUT:.0%} held out, stratified, seed {seed}"
    else:
        test, split = other.part(name) if name else other, "as given"
    for part, source in (("training", train), ("test", test)):
        if source is not None:
            say(f"{part} data: {source.name}: {source.summary()}")
            if source.labels is None:
                raise TapetumError(f"the {part} data {source.name} have no labels; give them with --labels.")
    if test is None:
        say(f"no test data: {split}")
    return train, test, split


def _cut(stored: Features, seed: int) -> list[Features]:
    """Training and test part of one set of features."""
    assert stored.labels is not None
    out = held_out(stored.labels, HELD_OUT, seed)
    return [stored.take(np.flatnonzero(~out)), stored.take(np.flatnonzero(out))]


def _results_file(encoder: Any, out: str | Path | None) -> Path | None:
    if out:
        return Path(out)
    is_run = isinstance(encoder, str | Path) and (Path(encoder) / "config.yaml").exists()
    return Path(encoder) / "results.json" if is_run else None


def _title(source: Source, split: str) -> str:
    return source.name if split == "as given" else f"{source.name} ({split})"


def show(results: Sequence[Result], title: str) -> None:
    """Print a table: a row for each subject, a column for each protocol, the error bar behind the value."""
    columns = list(dict.fromkeys(r.protocol_id for r in results))
    names = {r.protocol_id: r.name.replace(f" {r.protocol['metric']}", "") for r in results}
    cells = {(r.row, r.protocol_id): f"{r.value:.3f} ± {r.error_bar:.3f}" for r in results}
    order = ("pixels", "random weights", "start")
    rows = [row for row in order if any(r.row == row for r in results)]
    rows += [row for row in dict.fromkeys(r.row for r in results) if row not in order]
    say(title)
    lines = [[row, *(cells.get((row, c), "") for c in columns)] for row in rows]
    table(lines, ["", *(names[c] for c in columns)])
    n = "/".join(f"{n:,}" for n in dict.fromkeys(r.n for r in results))
    kinds = " / ".join(dict.fromkeys(r.error_kind for r in results))
    say(f"± one standard error: {kinds} ({n} images)")
    for note in dict.fromkeys(note for r in results for note in r.notes):
        say(note)
