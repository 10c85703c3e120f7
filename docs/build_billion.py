"""Writes the tables of billion.md: a run of one billion images, computed from measured rows (`make docs`).

Nothing here is measured; every rate and size is that of the last row of its task in benchmarks/results/, and
what is merely assumed stands in ASSUMED.
"""

import json
import re
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE / "billion.md"
RESULTS = HERE.parent / "benchmarks" / "results"
START, END = "<!-- computed: {} -->", "<!-- end -->"

ASSUMED: dict[str, tuple[float, str]] = {
    "images": (1e9, "images"),
    "passes": (3, "passes over the data in pretraining"),
    "views": (2, "views of an image in a step"),
    "backward": (2, "forward passes that a backward pass costs"),
    "dim": (768, "numbers in a feature vector"),
    "shard": (1e9, "bytes of a shard"),
    "nodes": (64, "machines that share the shards"),
    "cores": (64, "cores of such a machine"),
    "packing days": (2, "days for packing"),
    "training days": (14, "days for pretraining"),
    "embedding days": (1, "days for embedding"),
    "core hour": (0.04, "dollars for a core and an hour"),
    "terabyte month": (23.0, "dollars for a TB and a month in an object store"),
    "requests": (0.4, "dollars for a million reading requests"),
}
BLOCK, RUN, LANES = 2**20, 2**23, 64  # as data/blocks.py and data/stores.py read


def last(file: str, task: str) -> dict[str, Any]:
    """The last row of a task."""
    rows = [json.loads(line) for line in (RESULTS / f"{file}.jsonl").read_text().splitlines()]
    return [row for row in rows if row["task"] == task][-1]


def rate(file: str, task: str) -> tuple[float, str]:
    """How many a second and a core, and where that stands."""
    row = last(file, task)
    threads = int(re.search(r"(\d+) threads", row["machine"])[1])  # type: ignore[index]
    where = f"{file}.jsonl, {task}" + (f", on {threads} cores" if threads > 1 else "")
    return median(row["rates"]["tapetum"]) / threads, noted(where, row)


def noted(where: str, row: dict[str, Any]) -> str:
    """Marked where the row says something that its reader must know."""
    return f"{where} (has a note)" if "note" in row else where


def measured() -> dict[str, tuple[float, str, str]]:
    """(value, what it is, where it stands) by name."""
    photographs, listing = last("storage", "photographs"), last("storage", "listing")
    viewing, embedding, step = rate("views", "224"), rate("extract", "extract"), rate("step", "step")
    sizes, lists = noted("storage.jsonl, photographs", photographs), noted("storage.jsonl, listing", listing)
    return {
        "original": (photographs["original"], "bytes of an original photograph", sizes),
        "jpeg": (photographs["jpeg"], "bytes packed as JPEG of 256 pixels", sizes),
        "raw": (photographs["raw"], "bytes packed decoded, 256 pixels", sizes),
        "packing": (photographs["jpeg_per_second"], "images packed as JPEG a second, a core", sizes),
        "memory": (listing["memory"], "bytes of memory for a listed image", lists),
        "listing": (listing["per_second"], "images of a tar listed a second, a core", lists),
        "viewing": (viewing[0], "views of 224 pixels a second, a core, with decoding", viewing[1]),
        "embedding": (embedding[0], "features a second, a core: ResNet-18, 160 pixels", embedding[1]),
        "step": (step[0], "images trained a second, a core: SimCLR, small ResNet, 32 pixels", step[1]),
    }


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:,.2g}"


def table(rows: list[list[str]], columns: list[str]) -> str:
    numbers = [
        "---:" if i and columns[i] not in ("stands in", "from") else "---" for i in range(len(columns))
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, numbers, *rows])


def inputs() -> str:
    rows = [[what, number(value), where] for value, what, where in measured().values()]
    rows += [[what, number(value), "assumed"] for value, what in ASSUMED.values()]
    return table(rows, ["", "value", "stands in"])


def storage() -> str:
    """What lies in the object store."""
    m = {name: value for name, (value, *_) in measured().items()}
    a = {name: value for name, (value, _) in ASSUMED.items()}
    kinds = [
        ("originals", m["original"], "measured size"),
        ("packed as JPEG, 256 pixels", m["jpeg"], "measured size"),
        ("packed decoded, 256 pixels", m["raw"], "measured size"),
        ("features, float32", 4 * a["dim"], "arithmetic"),
        ("features, float16", 2 * a["dim"], "arithmetic"),
    ]
    rows = []
    for what, size, origin in kinds:
        whole = a["images"] * size / 1e12
        rows.append([what, number(size), number(whole), number(whole * a["terabyte month"]), origin])
    return table(rows, ["", "bytes an image", "TB", "dollars a month", "from"])


def stages() -> str:
    """Core hours and bytes of each stage."""
    m = {name: value for name, (value, *_) in measured().items()}
    a = {name: value for name, (value, _) in ASSUMED.items()}
    images, cores = a["images"], a["nodes"] * a["cores"]
    trained = m["embedding"] / (a["views"] * (1 + a["backward"]))  # images a second, a core
    work = [
        ("listing the shards", images / m["listing"], m["jpeg"] * images),
        ("packing to 256 pixels", images / m["packing"], m["original"] * images),
        (
            "views, all passes",
            a["passes"] * images * a["views"] / m["viewing"],
            a["passes"] * m["jpeg"] * images,
        ),
        ("pretraining, ResNet-18 at 160 pixels, on cores", a["passes"] * images / trained, 0.0),
        ("pretraining, small ResNet at 32 pixels, on cores", a["passes"] * images / m["step"], 0.0),
        ("embedding, ResNet-18 at 160 pixels, on cores", images / m["embedding"], m["jpeg"] * images),
    ]
    rows = []
    for what, seconds, read in work:
        requests = read / BLOCK
        dollars = seconds / 3600 * a["core hour"] + requests / 1e6 * a["requests"]
        cells = [seconds / 3600, seconds / 86400 / cores, read / 1e12, requests / 1e6, dollars]
        rows.append([what, *(number(cell) if cell else "" for cell in cells)])
    columns = ["", "core hours", f"days on {cores:,.0f} cores", "TB read", "million requests", "dollars"]
    return table(rows, columns)


def shuffling() -> str:
    """How many images a batch is drawn from, and what each machine must hold."""
    m = {name: value for name, (value, *_) in measured().items()}
    a = {name: value for name, (value, _) in ASSUMED.items()}
    shards = a["images"] * m["jpeg"] / a["shard"]
    rows = [
        ["shards", number(shards)],
        ["shards of a machine", number(shards / a["nodes"])],
        ["images of a shard", number(a["shard"] / m["jpeg"])],
        ["images in the runs that a process has open", number(RUN * LANES / m["jpeg"])],
        ["GB of memory for them", number(RUN * LANES / 1e9)],
        ["GB of memory to list all images in one process", number(a["images"] * m["memory"] / 1e9)],
        ["GB of memory to list a machine's shards", number(a["images"] * m["memory"] / 1e9 / a["nodes"])],
    ]
    return table(rows, ["", "value"])


def bandwidth() -> str:
    """What the network must give for a stage to end in its days."""
    m = {name: value for name, (value, *_) in measured().items()}
    a = {name: value for name, (value, _) in ASSUMED.items()}
    work = [
        ("packing", m["original"], a["packing days"]),
        ("pretraining, all passes", a["passes"] * m["jpeg"], a["training days"]),
        ("embedding", m["jpeg"], a["embedding days"]),
    ]
    rows = []
    for what, size, days in work:
        rate = a["images"] * size / (86400 * days) / 1e6
        images = a["images"] * (a["passes"] if "passes" in what else 1) / (86400 * days)
        rows.append([what, *map(number, (days, images, rate, rate / a["nodes"]))])
    return table(rows, ["", "days", "images a second", "MB a second", "for each machine"])


TABLES = {
    "inputs": inputs,
    "storage": storage,
    "stages": stages,
    "bandwidth": bandwidth,
    "shuffling": shuffling,
}


def page(text: str) -> str:
    """The page with its tables computed anew."""
    for name, made in TABLES.items():
        before, start, rest = text.partition(START.format(name))
        _, end, after = rest.partition(END)
        text = f"{before}{start}\n{made()}\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
