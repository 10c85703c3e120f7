"""Do pages answer at once? Opening a report, working with many runs and many points, in headless Chromium.

    python -m benchmarks.pages                  # all parts, some minutes; the rows are kept
    python -m benchmarks.pages --only runs      # one of them: report, map, runs
    python -m benchmarks.pages --dry            # only print

Needs cifar10.zip in the folder that TAPETUM_DATA names, playwright and Chromium. `report` is a page of
10,000 images: the time until its map is drawn and all its pictures are decoded. `map` is one of 60,000
images, `runs` a dashboard of 100 runs: the time from an event to the end of the next frame but one. Times are
in milliseconds, medians of --rounds with the least and the most.
"""

import contextlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import tapetum
from benchmarks import rows
from tapetum.data import open_data
from tapetum.evaluate.baselines import pixels
from tapetum.evaluate.neighbours import nearest
from tapetum.features import Extractor, Features, in_order
from tapetum.report import atlas as atlases
from tapetum.report.atlas import Atlas
from tapetum.report.dashboard import front
from tapetum.report.page import Page
from tapetum.report.parts import map_section, neighbour_section
from tapetum.report.server import Server
from tapetum.report.watched import Dashboard

ROWS = "pages.jsonl"
IMAGES, POINTS, RUNS, LINES = 10_000, 60_000, 100, 300
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
# From an event to the end of the next frame but one: what a person waits for.
TIMED = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const began = performance.now();
  await (async () => { ACT })();
  await frame();
  await frame();
  return performance.now() - began;
}"""
POINTER = """(() => {
  const plot = document.getElementById("plot"), box = plot.getBoundingClientRect();
  const send = (kind, x, y, buttons) => plot.dispatchEvent(new PointerEvent(kind, {
    pointerId: 1, bubbles: true, button: 0, buttons, pointerType: "mouse", clientX: box.left + x * box.width,
    clientY: box.top + y * box.height }));
  plot.setPointerCapture = () => {};
  %s
})()"""
DECODED = """Promise.all(atlasMap.atlas.sprites.map((source) => {
  const image = new Image();
  image.src = source;
  return image.decode();
}))"""
DRAWN = """new Promise((done) => new MutationObserver(done).observe(
  document.getElementById("drawings"), { childList: true }))"""
CONFIG = """data: photos
method: {method}
encoder: resnet18
steps: 3000
epochs: 30
seed: {seed}
optimizer:
  lr: {lr}
"""
LASSO = """send("pointerdown", 0.2, 0.5, 1);
  for (let k = 0; k < 6; k += 0.1) send("pointermove", 0.5 - 0.3 * Math.cos(k), 0.5 - 0.3 * Math.sin(k), 1);
  send("pointerup", 0.2, 0.5, 0);"""


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


def many(most: int, folder: Path) -> Path:
    """A page with the map of so many images of CIFAR-10 and some neighbours; features are 4 x 4 pixels."""
    source = in_order(open_data(str(rows.data("cifar10.zip")))).take(np.arange(most))
    found = Extractor(pixels()).features(source)
    x = torch.from_numpy(np.array(found.x, dtype=np.float32)).view(most, 3, 32, 32)
    small = Features(
        F.adaptive_avg_pool2d(x, 4).flatten(1).numpy(), found.source, found.subject, {}, found.keys
    )
    queries = np.array_split(np.arange(most), -(-most // 1000))
    parts = [nearest(small.x, part, atlases.NEAR) for part in queries]
    near, likeness = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    shown = Atlas(small, most, *atlases.flat(small.x, 0), near, likeness, classes=found.classes or [])
    sections = [map_section(shown), neighbour_section(shown, atlases.queries(shown, 8, 0))]
    file = folder / "map.html"
    file.write_text(Page("Images", [], sections, {"atlas-data": shown.data()}).html())
    return file


def waited(tab: Any, act: str) -> float:
    """Milliseconds from an act, in JavaScript, until it is seen."""
    return tab.evaluate(TIMED.replace("ACT", act))


def told(values: list[float]) -> list[float]:
    """Median, least and most, without the first."""
    return [round(v, 1) for v in (median(values[1:]), min(values[1:]), max(values[1:]))]


def each(tab: Any, acts: dict[str, Callable[[int], str]], rounds: int) -> dict[str, list[float]]:
    """How long each act takes, all of them in turn in each round, whose number they get. An act in brackets
    only puts things back for the next."""
    found: dict[str, list[float]] = {name: [] for name in acts}
    for i in range(rounds + 1):
        for name, act in acts.items():
            found[name].append(waited(tab, act(i)))
    return {name: told(values) for name, values in found.items() if not name.startswith("(")}


def report(chromium: Any, folder: Path, rounds: int) -> dict[str, Any]:
    data, out = f"{rows.data('cifar10.zip')}/test", str(folder / "run")
    tapetum.pretrain(data, out=out, encoder="resnet10_w32", steps=2, batch_size=64)
    file = Path(tapetum.report(out, images=IMAGES)["out"])

    def opened(_: int) -> float:
        tab = chromium.new_page()
        began = time.perf_counter()
        tab.goto(file.as_uri())
        tab.evaluate(DECODED)
        waited(tab, "")
        seconds = time.perf_counter() - began
        tab.close()
        return 1000 * seconds

    return {
        "images": IMAGES,
        "megabytes": round(file.stat().st_size / 1e6, 1),
        "open": told([opened(i) for i in range(rounds + 1)]),
    }


def map(chromium: Any, folder: Path, rounds: int) -> dict[str, Any]:
    file = many(POINTS, folder)
    tab = chromium.new_page(viewport={"width": 1200, "height": 900})
    began = time.perf_counter()
    tab.goto(file.as_uri())
    waited(tab, "")
    found: dict[str, Any] = {"images": POINTS, "megabytes": round(file.stat().st_size / 1e6, 1)}
    found["opened once"] = round(1000 * (time.perf_counter() - began))
    legend = "document.querySelectorAll('#legend button')[1].click()"
    where = np.random.default_rng(0).uniform(0.3, 0.7, (rounds + 1, 2)).tolist()
    acts: dict[str, Callable[[int], str]] = {
        "hover": lambda i: POINTER % 'send("pointermove", {}, {}, 0);'.format(*where[i]),
        "lasso": lambda i: POINTER % LASSO,
        "filter": lambda i: legend,
        "(all classes)": lambda i: legend,
    }
    found |= each(tab, acts, rounds)
    taken = int(tab.locator("#selection").get_attribute("data-count") or 0)
    assert taken > 0, "the lasso has selected nothing"
    return found


def runs(chromium: Any, folder: Path, rounds: int) -> dict[str, Any]:
    for i in range(RUNS):
        run(folder / "runs" / f"run-{i:03}", i)
    with Server(Dashboard([str(folder / "runs")]), front().html(), 0, "token", folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab = chromium.new_page(viewport={"width": 1200, "height": 900})
        tab.goto(server.url)
        tab.wait_for_selector("[data-number=loss]")
        box, choice = "document.getElementById('search')", "document.querySelector('[data-setting=method]')"
        changed, drawn = f"{choice}.dispatchEvent(new Event('change'))", f"const drawn = {DRAWN}"
        none = "document.getElementById('none').click()"
        acts: dict[str, Callable[[int], str]] = {
            "search": lambda i: f"{box}.value = 'run-0{i}'; {box}.dispatchEvent(new Event('input'))",
            "unsearch": lambda i: f"{box}.value = ''; {box}.dispatchEvent(new Event('input'))",
            "filter": lambda i: f"{choice}.selectedIndex = {i % 3 + 1}; {changed}",
            "(all runs)": lambda i: f"{choice}.selectedIndex = 0; {changed}",
            "select": lambda i: (
                f"{drawn}; document.querySelectorAll('#runs input')[{i}].click(); await drawn"
            ),
            "(none)": lambda i: none,
            "select all": lambda i: f"{drawn}; document.getElementById('all').click(); await drawn",
            "(none again)": lambda i: none,
        }
        found = each(tab, acts, rounds)
        server.shutdown()
    return {"runs": RUNS, "lines": LINES, **found}


def run(folder: Path, i: int) -> None:
    """A run as training would have written it."""
    folder.mkdir(parents=True)
    method = ("simclr", "byol", "dino")[i % 3]
    (folder / "config.yaml").write_text(CONFIG.format(method=method, seed=i, lr=0.1 / (1 + i % 7)))
    noise = np.random.default_rng(i).normal(0, 0.1, (LINES, 3))
    logged = []
    for s, (a, b, c) in enumerate(noise.tolist()):
        look = {"knn": 0.3 + 0.001 * s + c / 9, "rank": 30 + s / 9} if s % 30 == 0 else {}
        numbers = {"loss": 5 / (1 + s / 50) + a, "gradient_norm": 3 + b, "lr": 0.1}
        logged.append({"step": 10 * s, "epoch": s / 10, **numbers, **look})
    health = {"spread": 0.5, "gap": 0.1, "verdict": "learning", "why": ""}
    looks = [{"step": 250 * s, **health} for s in range(12)]
    for name, lines in (("metrics", logged), ("health", looks)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


PARTS = {"report": report, "map": map, "runs": runs}


def main(words: list[str] | None = None) -> None:
    given = rows.measuring(__doc__, PARTS, rounds=7).parse_args(words)
    for part in rows.chosen(given.only, PARTS):
        with tempfile.TemporaryDirectory() as folder, browser() as chromium:
            measured = PARTS[part](chromium, Path(folder), given.rounds)
            row = {"task": part, **measured, "chromium": chromium.version, **rows.facts(("playwright",))}
        print(json.dumps(row), flush=True)
        rows.finish(given, row, partial(rows.keep, rows.RESULTS / ROWS))


if __name__ == "__main__":
    main()
