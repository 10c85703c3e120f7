"""The page of one run: what was trained, whether it is healthy, how good it is, what it takes for similar."""

import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tapetum.base import random
from tapetum.base.addresses import is_address
from tapetum.base.console import say, size, warn
from tapetum.base.errors import TapetumError
from tapetum.base.files import write_atomic
from tapetum.data.source import Source
from tapetum.evaluate.scoreboard import compare
from tapetum.features import Extractor, in_order
from tapetum.report import answered as answering
from tapetum.report import painted, patches, sheet, story
from tapetum.report.answered import Answered
from tapetum.report.atlas import Atlas, Map, atlas, chosen, queries
from tapetum.report.compare import words as compared_words
from tapetum.report.halfway import encoder_of
from tapetum.report.page import Page, Section, bullets, facts, paragraph, picture, tag
from tapetum.report.parts import (
    confusion_section,
    files_section,
    map_section,
    neighbour_section,
    result_parts,
)
from tapetum.report.story import Story
from tapetum.report.training import training
from tapetum.train import config, stranger
from tapetum.train.setup import source_of

VIEWS, PATCHES, QUERIES = 4, 8, 8  # images of the sheet of views, of pictures of patches, with neighbours
NAME = "Name them with --data."


def report(
    run: str,
    out: str | None = None,
    data: str | None = None,
    images: int = 2000,
    map: Map = "pca",
    seed: int = 0,
    overwrite: bool = True,
    device: str | None = None,
) -> dict[str, Any]:
    """The body of the verb `report`; see tapetum.pages.report for the settings."""
    folder = Path(run)
    told = story.read(folder)
    file = destination(out, folder / "report.html", overwrite)
    page = of_run(told, data, images, map, seed, device)
    return written(page, file)


def destination(out: str | None, usual: Path, overwrite: bool) -> Path:
    """Where a page goes; what was asked for by name is not overwritten unasked."""
    file = Path(out) if out else usual
    if file.suffix.lower() not in (".html", ".htm"):
        raise TapetumError(f"{file} must be an .html file.")
    if out and file.exists() and not overwrite:
        raise TapetumError(f"{file} exists already; choose another --out, or add --overwrite.")
    return file


def written(page: Page, file: Path) -> dict[str, Any]:
    content = page.html().encode()
    write_atomic(file, content)
    say(f"wrote {file}: {size(len(content))}, one file that any browser opens")
    return {"out": str(file), "bytes": len(content), "parts": [s.name for s in page.sections if any(s.parts)]}


def of_run(told: Story, data: str | None, images: int, how: Map, seed: int, device: str | None) -> Page:
    """The page; what cannot be shown is said in its place."""
    own = stranger.near(told.settings)
    labels = own.get("labels") or "auto"
    source, lacking = _images(told, data, labels)
    found: Atlas | None = None
    answers: Answered | None = None
    extractor = None
    if source is not None:
        places = [p for place in (data, own.get("test_data"), own.get("data")) if place
                  for p in answering.around(place)]  # fmt: skip
        try:
            network, unfinished = encoder_of(told, source)
            lacking += [unfinished] if unfinished else []
            if told.finished:
                try:
                    answers = answering.read(told.folder / "results.json", told.results, places, labels)
                except TapetumError as error:
                    lacking.append(str(error))
            extractor = Extractor(network, device=device)
            found = _atlas(extractor, answers.source if answers else source, answers, images, seed, how)
        except TapetumError as error:
            warn(str(error))
            lacking.append(str(error))
    sample = _sample(told, data, labels) if source is not None else "Without images no views can be drawn."
    health, well = story.healthy(told)
    state = {True: "good", False: "bad", None: None}[well]
    lead = [story.trained(told), story.stands(told), tag("span", health, class_=state), story.compared(told)]
    return Page(
        f"Run {told.name}",
        lead,
        [
            training(told),
            _results(told),
            *_shown(found, answers, lacking, seed),
            _patches(extractor, found, seed),
            painted.section(told, sample),
            _views(told, sample),
            _settings(told),
            files_section(told.skipped, "Files that were left out", "skipped", "No file was left out."),
            Section("Notes", "notes", [bullets(told.notes)] if told.notes else []),
        ],
        {"atlas-data": found.data() if found else None},
    )


def _images(told: Story, data: str | None, labels: Any) -> tuple[Source | None, list[str]]:
    """The images to show, and why there are none or others than were trained on."""
    place = data or told.settings.get("data")
    if not place:
        return None, ["The run does not say which images it was trained on; name them with --data."]
    if not data and is_address(place):
        return None, [f"The images lie at {place}, and only an address that you type is asked for. {NAME}"]
    try:
        source = source_of(place, labels, None if data else told.settings.get("split"))
    except TapetumError as error:
        return None, [f"The images cannot be shown: {error} {NAME}"]
    lacking = []
    if is_address(told.settings.get("labels")):
        lacking.append(f"The labels lie at {told.settings['labels']}, which nobody typed: they are left out.")
    elif not data and source.fingerprint() != told.settings.get("fingerprint"):
        lacking.append(f"The images in {place} have changed since the run was begun.")
    return in_order(source), lacking


def _atlas(
    extractor: Extractor, source: Source, answers: Answered | None, images: int, seed: int, how: Map
) -> Atlas:
    """The map of the images that were judged, where there are answers, else of those trained on."""
    worst = answers.worst() if answers else None
    rows = chosen(source, images, seed, worst)
    found = atlas(extractor, source.take(rows), len(source), seed, how)
    if answers:
        number = {path: i for i, path in enumerate(source.paths)}
        said = np.full(len(source), -1)
        names = {name: i for i, name in enumerate(found.classes)}
        said[answers.rows] = [names.get(answers.classes[i], -1) for i in answers.said]
        found.said = said[[number[path] for path in found.found.paths]]
    return found


def _shown(found: Atlas | None, answers: Answered | None, lacking: list[str], seed: int) -> list[Section]:
    """Map, neighbours and confused classes, or why there are none."""
    notes = [paragraph(line) for line in lacking]
    if found is None:
        return [Section("Map of the images", "map", notes)]
    worst = None
    if answers is not None:
        names = {answers.source.paths[row] for row in answers.worst()}
        worst = np.array([row for row, path in enumerate(found.found.paths) if path in names])
    first = map_section(found)
    first.parts += notes
    parts = [first, neighbour_section(found, queries(found, QUERIES, seed), worst)]
    return [*parts, confusion_section(answers)] if answers is not None else parts


def _results(told: Story) -> Section:
    """Numbers with error bars beside the baselines, and what is beyond chance."""
    title = "How good it is"
    if not told.results:
        places = [str(told.folder), "--train-data", str(told.settings.get("data", "DATA"))]
        command = shlex.join(["tapetum", "evaluate", *places])
        return Section(
            title, "results", [paragraph("It was not measured yet. Measure it with: ", tag("code", command))]
        )
    finite = [r for r in told.results if math.isfinite(r.value)]
    parts = result_parts(finite, told.name)
    try:
        parts.append(bullets(compared_words(compare([str(told.folder)]))))
    except TapetumError as error:
        parts.append(paragraph(f"It was not compared with its baselines: {error}"))
    return Section(title, "results", parts)


def _patches(extractor: Extractor | None, found: Atlas | None, seed: int) -> Section:
    """Pictures of patches, where the encoder has enough of them."""
    section = Section("What it sees in patches", "patches")
    if extractor is None or found is None:
        return section
    rows = random.order(seed, 1, len(found)).numpy()[:PATCHES]
    try:
        shown = patches.pictures(extractor, found.found.source.take(rows))
    except (TapetumError, RuntimeError) as error:
        section.parts.append(paragraph(f"Its patches cannot be shown: {error}"))
        return section
    if not shown:
        return section
    has_attention = "attention" in shown[0]
    words = (
        "Colours are the three main components of the patches' features: one colour, alike to the network."
    )
    if has_attention:
        words += " Below, bright is where the last block looks, the mean over its heads."
    alt = {"image": "image", "patches": "components of its patches", "attention": "where the network looks"}
    figures = [tag("figure", [picture(one[kind], alt[kind]) for kind in alt if kind in one]) for one in shown]
    section.parts += [paragraph(words), tag("div", figures, class_="patches")]
    return section


def _sample(told: Story, data: str | None, labels: Any) -> sheet.Sample | str:
    """What training saw of a few images in its first epoch, or why it cannot be drawn."""
    own, groups = config.split(told.settings)
    if str(own.get("method", "")).endswith(".py"):
        return (
            "The method is a file of somebody's own, which a report does not run, so its views are not drawn."
        )
    given = {
        **own,
        "data": data or own.get("data"),
        "labels": labels,
        "images": VIEWS,
        "epoch": 0,
    }
    if data:
        given["split"] = None
    try:
        with torch.random.fork_rng(devices=[]):
            return sheet.sample(given, groups)
    except (TapetumError, RuntimeError, KeyError, TypeError) as error:
        return f"The views cannot be drawn: {error}"


def _views(told: Story, sample: sheet.Sample | str) -> Section:
    """The sheet of images and views."""
    section = Section("What training sees", "views")
    if isinstance(sample, str):
        section.parts.append(paragraph(sample))
        return section
    method = str(told.settings.get("method", ""))
    line = "A frame of the same colour shows where in the image a view comes from."
    drawn = sheet.drawn(sample, f"What {method} is shown", line)
    drawn.thumbnail((1400, 1400))
    words = f"Images as they are, and the views that {method} is given of them"
    section.parts.append(tag("div", picture(drawn, words, 80), class_="wide", tabindex="0"))
    return section


def _settings(told: Story) -> Section:
    return Section("Settings", "settings", [facts(story.plain_settings(told.settings))])
