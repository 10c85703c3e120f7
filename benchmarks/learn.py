"""How well does each method learn in ten minutes? Trains on CIFAR-10, measures the last epoch, keeps rows.

    python -m benchmarks.learn                     # every recipe, seeds 0 1 2; what is done stays done
    python -m benchmarks.learn simclr --seeds 0    # one of them
    python -m benchmarks.learn --table             # only rewrite the table from the rows

The clock covers everything from the first import to the last file written, and not the last evaluation.
The machine must be idle: two busy processes slow each other down tenfold. A killed run goes on where it
stopped, but its row then says that its seconds are not those of one go.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from benchmarks import rows
from benchmarks.rows import RESULTS, ROOT

ROWS = RESULTS / "cifar10-ten-minutes.jsonl"
TABLE = ROWS.with_suffix(".md")
RECIPES = {
    file.stem.removeprefix("cifar10-"): file for file in sorted((ROOT / "recipes").glob("cifar10-*.yaml"))
}
KNN = "kNN, k 20, temperature 0.07, bank of all 50,000 training images, 10,000 test images"


def data() -> Path:
    """CIFAR-10."""
    return rows.data("cifar10.zip")


def train(method: str, seed: int, out: Path) -> tuple[float, bool]:
    """Run the recipe as a user would; gives the seconds, and whether it ran in one go."""
    fresh = not (out / "config.yaml").exists()
    command = [
        sys.executable,
        "-m",
        "tapetum",
        "pretrain",
        str(data()),
        "--out",
        str(out),
        "--resume",
        "auto",
    ]
    began = time.monotonic()
    subprocess.run([*command, "--config", str(RECIPES[method]), "--seed", str(seed)], check=True)
    return time.monotonic() - began, fresh


def head_accuracy(run: Path, test) -> float | None:
    """Accuracy of the run's own classifier on test features, where it has one."""
    from safetensors.torch import load_file

    from tapetum.base.files import read_json

    if not (run / "head.safetensors").exists():
        return None
    head = load_file(run / "head.safetensors")
    classes = read_json(run / "head.json")["classes"]
    logits = torch.from_numpy(np.array(test.x)) @ head["weight"].T + head["bias"]
    said = [classes[i] for i in logits.argmax(1).tolist()]
    return float(np.mean([a == b for a, b in zip(said, test.source.label_names())]))


def measure(encoder) -> dict:
    """The numbers of one encoder: kNN and linear probe; the run's own classifier where it has one."""
    import tapetum
    from tapetum.data import open_data
    from tapetum.encoders import load
    from tapetum.features import Extractor

    results = tapetum.evaluate(
        encoder,
        train_data=f"{data()}/train",
        test_data=f"{data()}/test",
        protocols=["knn", "logistic"],
        baselines=False,
        duplicates=False,
    )
    names = ["knn", "linear"]  # results come in the order asked
    numbers: dict = {name: round(result.value, 4) for name, result in zip(names, results)}
    numbers["protocols"] = {name: result.protocol_id for name, result in zip(names, results)}
    if isinstance(encoder, Path):
        own = head_accuracy(encoder, Extractor(load(encoder)).features(open_data(f"{data()}/test")))
        numbers |= {} if own is None else {"classifier": round(own, 4)}
    return numbers


def facts(name: str, seed: int) -> dict:
    """What every row says of itself."""
    return {"row": name, "seed": seed, **rows.facts(), "protocol": KNN}


def add(row: dict) -> None:
    """Keep a row and show it."""
    rows.keep(ROWS, row)
    print(json.dumps(row), flush=True)


def fingerprint(method: str) -> str:
    """Of a method's recipe as it stands."""
    return hashlib.sha256(RECIPES[method].read_bytes()).hexdigest()[:12]


def learn(method: str, seed: int) -> None:
    """One row: train, then measure."""
    recipe = fingerprint(method)
    if any(r["row"] == method and r["seed"] == seed and r.get("recipe") == recipe for r in rows.kept(ROWS)):
        return
    out = ROOT / "runs" / f"{method}-{recipe}-{seed}"
    seconds, one_go = train(method, seed, out)
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [m for m in metrics if "rate" in m]
    add(
        facts(method, seed)
        | {
            "recipe": recipe,
            "seconds": round(seconds, 1),
            "one_go": one_go,
            "epochs": round(metrics[-1]["epoch"], 2),
            "images_per_second": round(float(np.median([m["rate"] for m in steps])), 1),
            "loss": round(steps[-1]["loss"], 4),
        }
        | measure(out)
    )


def baselines(seeds: list[int]) -> None:
    """Rows of raw pixels and of random weights of the encoders that the recipes use."""
    from tapetum import encoders
    from tapetum.evaluate.baselines import pixels

    done = {(r["row"], r["seed"]) for r in rows.kept(ROWS)}
    if ("pixels", 0) not in done:
        add(facts("pixels", 0) | measure(pixels()))
    for users, given in encoders_used().items():
        for seed in seeds:
            if (f"random weights ({users})", seed) not in done:
                torch.manual_seed(seed)
                encoder = encoders.build(given["name"], 32, **{k: v for k, v in given.items() if k != "name"})
                add(facts(f"random weights ({users})", seed) | measure(encoder.eval()))


def encoders_used() -> dict[str, dict]:
    """The encoders of the recipes, each under the names of those that use it."""
    given = {name: yaml.safe_load(file.read_text())["encoder"] for name, file in RECIPES.items()}
    users: dict[str, list[str]] = {}
    for name, settings in given.items():
        users.setdefault(json.dumps(settings), []).append(name)
    return {", ".join(names): given[names[0]] for names in users.values()}


def table() -> None:
    """Write the rows as a table: means and spread over seeds."""
    found: dict[str, list[dict]] = {}
    for row in rows.kept(ROWS):
        earlier = row["row"] in RECIPES and row["recipe"] != fingerprint(row["row"])
        found.setdefault(row["row"] + (" (an earlier recipe)" if earlier else ""), []).append(row)
    lines = [
        "# Ten minutes on two cores: CIFAR-10",
        "",
        "Generated by `python -m benchmarks.learn --table` from the rows beside this file; the recipes are",
        f"`recipes/cifar10-*.yaml`. {KNN}.",
        "Linear: logistic regression on frozen features. Last epoch, mean over seeds (standard deviation).",
        "Seconds are of the whole command on an idle machine.",
        "",
        "| | seeds | epochs | seconds | images a second | kNN % | linear % | own classifier % |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def cell(group: list[dict], key: str, scale: float, digits: int) -> str:
        values = [scale * r[key] for r in group if key in r]
        spread = f" ({np.std(values, ddof=1):.{digits}f})" if len(values) > 1 and scale == 100 else ""
        return f"{np.mean(values):,.{digits}f}{spread}" if values else ""

    for name, group in sorted(found.items(), key=lambda item: -np.mean([r["knn"] for r in item[1]])):
        cells = [
            cell(group, "epochs", 1, 0),
            cell(group, "seconds", 1, 0),
            cell(group, "images_per_second", 1, 0),
        ]
        cells += [cell(group, key, 100, 1) for key in ("knn", "linear", "classifier")]
        lines.append(f"| {name} | {len(group)} | {' | '.join(cells)} |")
    machines = sorted({r["machine"] for r in rows.kept(ROWS)})
    TABLE.write_text("\n".join([*lines, "", *(f"Machine: {m}." for m in machines)]) + "\n")


def main() -> None:
    """Train what is asked and not yet done, seed by seed so that every method has a row early."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("methods", nargs="*", help=f"of {', '.join(RECIPES)}, baselines; all by default")
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas")
    parser.add_argument("--table", action="store_true", help="only rewrite the table")
    asked = parser.parse_args()
    if wrong := set(asked.methods) - {*RECIPES, "baselines"}:
        sys.exit(f"error: there is no recipe for {', '.join(sorted(wrong))}; there are {', '.join(RECIPES)}.")
    if not asked.table:
        seeds = [int(s) for s in asked.seeds.split(",")]
        for seed in seeds:
            for method in RECIPES:
                if not asked.methods or method in asked.methods:
                    learn(method, seed)
                    table()
        if not asked.methods or "baselines" in asked.methods:
            baselines(seeds)
    table()


if __name__ == "__main__":
    main()
