"""The parts that pages of runs and of data share: map, neighbours, mistakes, results, left-out files."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapetum.evaluate.result import Result
from tapetum.evaluate.run import shown
from tapetum.report import charts
from tapetum.report.answered import Answered
from tapetum.report.atlas import Atlas
from tapetum.report.page import Html, Section, bullets, facts, figure, folded, paragraph, table, tag, thumb

MOST_CLASSES = 30  # of a matrix
MOST_FILES = 500  # in a list of files
MUTED = "muted"


def map_section(atlas: Atlas) -> Section:
    """The map, its legend and the place where an image under the pointer is shown."""
    sample = f"all {len(atlas):,} images"
    if len(atlas) < atlas.of:
        sample = f"{len(atlas):,} of {atlas.of:,} images, drawn by seed"
    how = "Point at a dot, tap it, or walk with the arrow keys: the image appears with those most like it. "
    how += (
        "Draw a line around dots to select them (with Shift, more of them; the space bar takes single ones)."
    )
    words = f"A map of {len(atlas)} images; arrow keys go from image to image"
    canvas = tag("canvas", id="plot", tabindex="0", role="application", aria_label=words)
    lasso = tag("button", "Draw with a finger", id="lasso", type="button", aria_pressed="false")
    plot = tag(
        "div",
        canvas,
        tag("canvas", id="over", aria_hidden="true"),
        tag("div", lasso, class_="tools touch"),
        class_="plot",
    )
    legend = tag("div", id="legend", class_="legend", role="group", aria_label="Classes that are shown")
    start = paragraph("No image is chosen yet.", class_=MUTED)
    told = tag("p", id="shown", class_=MUTED, aria_live="polite")
    keys = tag("div", told, legend, class_="keys")
    seen = tag("div", start, id="seen", class_="seen", aria_live="polite")
    selection = tag("div", id="selection", class_="selection", aria_live="polite", hidden=True)
    parts = [paragraph(how), tag("div", plot, seen, keys, selection, class_="atlas")]
    parts.append(paragraph(f"It shows {sample}. ", atlas.how, class_=MUTED))
    return Section("Map of the images", "map", parts)


def neighbours(atlas: Atlas, rows: Sequence[int] | np.ndarray) -> list[Html]:
    """For each of these rows the image and its nearest others; frames tell the class where it is known."""
    lines = []
    for row in map(int, rows):
        own = atlas.class_of(row)
        note = own or atlas.found.paths[row]
        if atlas.said is not None and 0 <= (answer := int(atlas.said[row])) != atlas.labels[row]:
            note += f", taken for {atlas.classes[answer]}"
        cards = [thumb(row, atlas.found.paths[row], note, "query")]
        for other, cosine in zip(atlas.near[row].tolist(), atlas.likeness[row].tolist()):
            name = atlas.class_of(other)
            known = own and name
            kind = ("same" if own == name else "other") if known else ""
            sign = ("✓ " if own == name else "✗ ") if known else ""
            cards.append(thumb(other, atlas.found.paths[other], f"{sign}{name} {cosine:.2f}", kind))
        lines.append(tag("div", cards, class_="row"))
    return lines


def neighbour_section(atlas: Atlas, rows: np.ndarray, worst: np.ndarray | None = None) -> Section:
    words = "Each row begins with an image; then come those that the network takes for most similar (cosine)."
    if atlas.classes:
        words += " ✓ and a full frame: the same class; ✗ and a dashed frame: another."
    parts = [paragraph(words), *neighbours(atlas, rows)]
    if worst is not None and len(worst):
        parts += [tag("h3", "Of images that were named wrongly"), *neighbours(atlas, worst)]
    return Section("Nearest neighbours", "neighbours", parts)


def confusion_section(answered: Answered) -> Section:
    """Which classes are taken for which."""
    classes, r = answered.classes, answered.result
    words = f"By {r.name} ({shown(r)}) on {len(answered.rows):,} images."
    pairs = answered.pairs(10)
    counts = [(answered.counts[i, j], answered.counts[i].sum()) for i, j, _ in pairs]
    said = [
        f"{classes[i]} is taken for {classes[j]}: {n:,.0f} of {of:,.0f} images ({share:.1%})"
        for (i, j, share), (n, of) in zip(pairs, counts)
    ]
    parts = [paragraph(words), tag("h3", "Most often confused"), bullets(said)]
    if not pairs:
        parts = [paragraph(words, " No image was named wrongly.")]
    rows, shares = np.arange(len(classes)), answered.shares
    note = "Rows are the true classes, columns the answers; numbers are per cent of the row."
    if len(classes) > MOST_CLASSES:
        wrong = answered.counts.sum(1) - answered.counts.diagonal()
        rows = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
        note += f" Shown are the {MOST_CLASSES} of {len(classes)} classes with the most mistakes."
    names = [classes[i] for i in rows]
    drawing = charts.matrix(shares[np.ix_(rows, rows)].tolist(), names, "Confusion matrix")
    parts.append(figure(tag("div", drawing, class_="scroll", tabindex="0"), note))
    return Section("Confused classes", "confusion", parts)


def result_parts(results: Sequence[Result], own: str = "encoder") -> list[Html]:
    """A drawing for each number that several have, and a table of all."""
    order = {"encoder": 0, "start": 1, "random weights": 2, "pixels": 3}
    by_number: dict[str, list[Result]] = {}
    for r in results:
        by_number.setdefault(r.protocol_id, []).append(r)
    drawings, rows = [], []
    for found in by_number.values():
        found = sorted(found, key=lambda r: order.get(r.row, 9))
        name = found[0].title
        lanes = [
            (own if r.row == "encoder" else r.row, r.value, r.interval, r.row == "encoder") for r in found
        ]
        drawings.append(figure(charts.dots(lanes, name), [tag("b", name), f", {found[0].n:,} images"]))
        rows += [[name, own if r.row == "encoder" else r.row, shown(r), _span(r), f"{r.n:,}"] for r in found]
    kinds = "; ".join(dict.fromkeys(r.error_kind for r in results))
    notes = dict.fromkeys(note for r in results for note in r.notes)
    return [
        tag("div", drawings, class_="charts"),
        paragraph(f"Lines are 95 % intervals, ± is one standard error ({kinds}).", class_=MUTED),
        folded("All numbers", table(["number", "of", "value", "95 %", "images"], rows, "all results")),
        bullets(notes),
    ]


def _span(r: Result) -> str:
    low, high = r.interval
    return f"{low:.3f} to {high:.3f}" if math.isfinite(high - low) else ""


def files_section(rows: Sequence[dict[str, Any]], title: str, name: str, none: str) -> Section:
    """Files that were left out or cannot be read, with the reasons."""
    if not rows:
        return Section(title, name, [paragraph(none)])
    reasons = Counter(str(row.get("reason", "no reason given")) for row in rows).most_common()
    shown_rows = [[str(row["path"]), str(row.get("reason", ""))] for row in rows[:MOST_FILES]]
    more = f"The first {MOST_FILES} of {len(rows):,}." if len(rows) > MOST_FILES else ""
    listed = folded(more or f"All {len(rows):,} files", table(["file", "reason"], shown_rows, title))
    return Section(title, name, [facts([(reason, f"{count:,}") for reason, count in reasons]), listed])
