"""Measures an encoder beside its baselines, prints the table and keeps the results."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tapetum.base.console import Progress, say, table, warn
from tapetum.base.errors import TapetumError
from tapetum.data.place import place
from tapetum.encoders import Encoder, load
from tapetum.evaluate import baselines as others
from tapetum.evaluate import protocols as known
from tapetum.evaluate import suites
from tapetum.evaluate.case import checked
from tapetum.evaluate.cost import cost
from tapetum.evaluate.parts import Parts, prepare
from tapetum.evaluate.protocols import needs_labels
from tapetum.evaluate.result import Result, add_results, read_results
from tapetum.evaluate.targets import Kind
from tapetum.features import Extractor, Precision
from tapetum.features.extract import Pooling


def evaluate(
    encoder: str | Path | Encoder,
    train_data: Any,
    test_data: Any = None,
    protocols: Sequence[str] = ("knn", "logistic"),
    *,
    labels: Any = "auto",
    label_kind: Kind = "class",
    metric: str | None = None,
    group_by: str | None = None,
    repeats: int | None = None,
    baselines: bool = True,
    duplicates: bool = True,
    seed: int = 0,
    out: str | Path | None = None,
    image_size: int | None = None,
    layer: int | None = None,
    pooling: Pooling = "encoder",
    batch_size: int = 256,
    precision: Precision = "float32",
    device: str | None = None,
    workers: int | None = None,
    protocol_settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Result]:
    """Measure an encoder, print a table, and add the results to a file; one result per protocol and subject.

    Args:
        encoder: a run, a folder or file of weights, `timm:NAME`, or an Encoder.
        train_data: what the protocols learn from; of data with splits its training part.
        test_data: what they are scored on; by default the test or validation part of `train_data`, or by
            repeated cross-validation all of it in turn.
        protocols: names of files in `protocols/`, names of suites, or YAML files of suites.
        labels: see `open_data`.
        label_kind: what a label is: one class, several ("cat;dog"), or a number.
        metric: what is measured; by default accuracy, mean average precision, or r2.
        group_by: a column of the list or the file of labels whose groups no fold may part.
        repeats: of cross-validation.
        baselines: measure raw pixels, random weights and the weights that a run began from too.
        duplicates: look for images that are in both parts, or twice in one.
        seed: of all that is drawn.
        out: a JSON file for the results; by default results.json of the run, where `encoder` is one.
        image_size: for `timm:NAME`, where it shall not be the model's own.
        layer, pooling, batch_size, precision, device, workers: how features are computed, see `Extractor`.
        protocol_settings: {"knn": {"k": 5}}.

    Raises TapetumError for unknown names and for data without labels.
    """
    suite = suites.read(protocols, protocol_settings)
    checked(metric, label_kind)
    file = _results_file(encoder, out)
    if file:
        read_results(file)  # a damaged file is found before the work, not after
    if suite.about:
        say(suite.about)
    main = load(encoder, image_size)
    how: dict[str, Any] = {"batch_size": batch_size, "device": device, "workers": workers}
    asked: dict[str, Any] = {
        "labels": labels, "kind": label_kind, "metric": metric, "group_by": group_by, "train_images": None,
    }  # fmt: skip
    fixed: dict[str, Any] = {"seed": seed, "repeats": repeats, "duplicates": duplicates, "how": how}

    found: list[Result] = []
    for name, group, entries, train, test, own in _sets(suite, train_data, test_data):
        needed = any(needs_labels(entry.name, entry.settings) for entry in entries)
        parts = prepare(train, test, **asked | own, **fixed, needs_labels=needed)
        about = {"encoder": _called(encoder, main), "set": name or parts.judged.name, "group": group}
        results: list[Result] = []
        for row, subject, note in _subjects(main, baselines, seed):
            exact: dict[str, Any] = {"precision": "float32"} if row == "pixels" else {"precision": precision}
            if row != "pixels":
                exact |= {"layer": layer, "pooling": pooling}
            extractor = Extractor(subject, **how, **exact)
            if any(r.subject == extractor.subject for r in results):
                continue  # the encoder is its own baseline
            results += _measured(entries, parts, extractor, row, note, about, file)
        if not results:
            raise TapetumError(f"none of {', '.join(entry.name for entry in entries)} can be measured here.")
        show(results, " on ".join(filter(None, (name, _title(parts, results)))))
        found += results
    if file:
        say(f"saved in {file}")
    return found


def _measured(
    entries: Sequence[suites.Entry],
    parts: Parts,
    extractor: Extractor,
    row: str,
    notes: list[str],
    about: dict[str, Any],
    file: Path | None,
) -> list[Result]:
    """All protocols on one subject; each is kept as soon as it is there."""
    found: list[Result] = []
    facts = cost(extractor.encoder)
    with Progress(len(entries), row, "protocols") as bar:
        for entry in entries:
            bar.advance()
            if row == "pixels" and not extractor.encoder.gives(known.needs(entry.name)):
                continue
            try:
                results = parts.measure(entry, extractor)
            except TapetumError as error:
                if len(entries) == 1:
                    raise
                warn(f"{row}: {entry.name} is left out: {error}")
                continue
            results = [
                replace(r, row=row, cost=facts, about=about, notes=[*r.notes, *parts.notes, *notes])
                for r in results
            ]
            if file:
                add_results(file, results, parts.judged.paths)
            found += results
    return found


def _called(encoder: Any, main: Encoder) -> str:
    """What people call an encoder: as they named it, but of a path the last part."""
    if isinstance(encoder, Encoder):
        return main.spec.name
    path = Path(encoder)
    return path.resolve().name if path.exists() else str(encoder)


def _sets(
    suite: suites.Suite, train_data: Any, test_data: Any
) -> Iterator[tuple[str, str, list[suites.Entry], Any, Any, dict[str, Any]]]:
    """(name, group, protocols, training data, test data, what the suite says of them) of each set that is
    there."""
    if not suite.data:
        yield "", "", suite.entries, train_data, test_data, {}
        return
    lacking = []
    here = place(train_data if isinstance(train_data, os.PathLike) else str(train_data))
    for row in suite.data:
        given = dict(row)
        own = given.pop("root")
        root = own or here
        train, test = root / given.pop("train"), given.pop("test", None)
        name, group = given.pop("name", train.name), given.pop("group", "")
        wanted = given.pop("protocols", None)
        entries = [entry for entry in suite.entries if wanted is None or entry.name in wanted]
        if not train.exists() and own is None:
            lacking.append(name)
            continue
        given = {("kind" if key == "label_kind" else key): value for key, value in given.items()}
        other = None if test is None else os.fspath(root / test)
        if test is None and train == root:
            other = test_data
        yield name, group, entries, os.fspath(train), other, given
    if len(lacking) == len(suite.data):
        raise TapetumError(f"{here} holds none of the suite's data sets: {', '.join(lacking)}.")
    if lacking:
        say(f"{len(lacking)} data sets of the suite are not in {here}: {', '.join(lacking)}")


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


def _results_file(encoder: Any, out: str | Path | None) -> Path | None:
    if out:
        return Path(out)
    is_run = isinstance(encoder, str | Path) and (Path(encoder) / "config.yaml").exists()
    return Path(encoder) / "results.json" if is_run else None


def _title(parts: Parts, results: Sequence[Result]) -> str:
    splits = dict.fromkeys(r.protocol["split"] for r in results)
    known = [split for split in splits if split != "as given"]
    return parts.judged.name + (f" ({'; '.join(known)})" if known else "")


def show(results: Sequence[Result], title: str) -> None:
    """Print a table: a row for each number, a column for each subject, the error bar behind the value."""
    known = ("pixels", "random weights", "start")
    there = list(dict.fromkeys(r.row for r in results))
    columns = [row for row in known if row in there] + [row for row in there if row not in known]
    numbers = {r.protocol_id: r.name for r in results}
    cells = {(r.protocol_id, r.row): shown(r) for r in results}
    say(title)
    table([[name, *(cells.get((i, c), "") for c in columns)] for i, name in numbers.items()], ["", *columns])
    for kind in dict.fromkeys(r.error_kind for r in results):
        counts = "/".join(f"{n:,}" for n in dict.fromkeys(r.n for r in results if r.error_kind == kind))
        say(f"± one standard error: {kind} ({counts})")
    for note in dict.fromkeys(note for r in results for note in r.notes):
        say(note)
    for r in results:
        if clean := r.details.get("without_duplicates"):
            say(
                f"{r.name}, {r.row}: {r.value:.4g}; "
                f"without the {clean['left_out']:,} duplicates {clean['value']:.4g}"
            )


def shown(r: Result) -> str:
    """A value with its error, as many digits as it is worth."""
    if abs(r.value) >= 100:
        return f"{r.value:.1f} ± {r.error_bar:.1f}"
    return f"{r.value:.3f} ± {r.error_bar:.3f}"
