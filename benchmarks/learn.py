"""How well does each method learn in a few minutes? Trains on CIFAR-10, measures the last epoch, keeps rows.

    python -m benchmarks.learn                        # every method for two minutes, once
    python -m benchmarks.learn simclr byol --seeds 0,1,2
    python -m benchmarks.learn --beside-lightly       # ours and lightly's modules, seeds 0,1,2 (hours)
    python -m benchmarks.learn --budget ten-minutes   # the recipes of recipes/ten-minutes
    python -m benchmarks.learn --table                # only rewrite the tables and docs/methods.md

What is done stays done, and a killed run goes on where it stopped. Two minutes are those of two idle cores:
in fact the number of images is fixed, the same for all methods of a kind, and a second busy process changes
the rate that a row names, not what is learnt.
"""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks import learned, looks, rows
from benchmarks.rows import RESULTS, ROOT
from tapetum.base.files import read_json, read_lines
from tapetum.train import config

SMALL_RESNET = {"name": "resnet10_w32", "stem": "nopool", "stem_type": "deep", "stem_width": 16}
SMALL_VIT = {"name": "vit_mini", "embed_dim": 128, "depth": 4, "num_heads": 4}
# What all methods of a kind share; a recipe names its kind where its views do not tell it.
KINDS: dict[str, dict[str, Any]] = {
    "one view": {"encoder": SMALL_RESNET, "epochs": 5, "batch_size": 256},
    "two views": {"encoder": SMALL_RESNET, "epochs": 3, "batch_size": 256},
    "many views": {"encoder": SMALL_RESNET, "epochs": 2, "batch_size": 256},
    "tokens": {"encoder": SMALL_VIT, "epochs": 3, "batch_size": 128},
}


@dataclass(frozen=True)
class Recipe:
    """Args:
    name: of its file, and of its rows.
    settings: of `pretrain`, nested as in a YAML file.
    kind: the methods that it may be compared with.
    trivial: what the loss would be for a network that has learnt nothing, where the recipe says so.
    after: settings that name an earlier run, each with the recipe of that run.
    """

    name: str
    settings: dict[str, Any]
    kind: str
    trivial: float | None = None
    after: Mapping[str, "Recipe"] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return self.name.removeprefix(learned.LIGHTLY)

    def of_lightly(self) -> "Recipe":
        """The same with the method made of lightly's modules."""
        file = ROOT / "benchmarks" / "lightlys" / f"{self.name}.py"
        method = {**self.settings["method"], "name": str(file.relative_to(ROOT))}
        return replace(self, name=learned.LIGHTLY + self.name, settings={**self.settings, "method": method})

    @property
    def fingerprint(self) -> str:
        said = {**self.settings, **{key: one.fingerprint for key, one in self.after.items()}}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    def write(self, path: Path, earlier: Mapping[str, str] | None = None) -> None:
        """As a file for `tapetum pretrain --config`. earlier: the runs that `after` asks for."""
        path.parent.mkdir(parents=True, exist_ok=True)
        config.write(path, {**config.flattened(self.settings), **(earlier or {})})


def recipes(budget: str) -> dict[str, Recipe]:
    """The recipes of a budget, which is a folder of recipes/, by name."""
    return {file.stem: recipe(file) for file in sorted((ROOT / "recipes" / budget).glob("*.yaml"))}


def beside_lightly() -> dict[str, Recipe]:
    """The recipes of the methods that lightly's modules make as well, each followed by theirs."""
    own = recipes("two-minutes")
    names = [f.stem for f in sorted((ROOT / "benchmarks" / "lightlys").glob("*.py")) if f.stem in own]
    pairs = [one for name in names for one in (own[name], own[name].of_lightly())]
    return {one.name: one for one in pairs}


def recipe(file: Path) -> Recipe:
    """What a file says, and for two minutes what its kind adds."""
    said = yaml.safe_load(file.read_text())
    kind, trivial, after = said.pop("kind", ""), said.pop("trivial", None), said.pop("after", {})
    said["method"] = {"name": file.stem, **(said.get("method") or {})}
    if "encoder" not in said:
        kind = kind or kind_of(said["method"]["name"])
        said = {**KINDS[kind], "image_size": 32, **said}
    earlier = {key: recipe(file.with_stem(name)) for key, name in after.items()}
    return Recipe(file.stem, said, kind, trivial, earlier)


def kind_of(method: str) -> str:
    """The kind of a method, by what it needs and the views it wants."""
    from tapetum.methods import find
    from tapetum.train import sandbox
    from tapetum.views.nest import leaves

    made = sandbox.build(find(method))
    if made.needs == "tokens":
        return "tokens"
    return {1: "one view", 2: "two views"}.get(len(list(leaves(made.views))), "many views")


def train(one: Recipe, seed: int, folder: Path) -> tuple[Path, float, bool]:
    """Train as a user would; gives the run, its seconds without earlier ones', and whether it ran in one
    go."""
    earlier = {key: str(train(first, seed, folder)[0]) for key, first in one.after.items()}
    out = folder / f"{one.name}-{one.fingerprint}-{seed}"
    fresh = not (out / "config.yaml").exists()
    written = out.with_suffix(".yaml")
    one.write(written, earlier)
    command = [sys.executable, "-m", "tapetum", "pretrain", str(rows.data("cifar10.zip"))]
    command += ["--out", str(out), "--resume", "auto", "--config", str(written), "--seed", str(seed)]
    began = time.monotonic()
    subprocess.run(command, check=True, cwd=ROOT)
    return out, time.monotonic() - began, fresh


def measure(encoder: Any) -> dict[str, Any]:
    """kNN, a linear probe (logistic regression) and the label-free measures of an encoder."""
    import tapetum

    data = rows.data("cifar10.zip")
    results = tapetum.evaluate(
        encoder,
        train_data=f"{data}/train",
        test_data=f"{data}/test",
        protocols=["knn", "logistic", "labelfree"],
        baselines=False,
        duplicates=False,
    )
    by_name = {result.name: result for result in results}
    numbers: dict[str, Any] = {
        "knn": round(by_name["knn accuracy"].value, 4),
        "linear": round(by_name["logistic accuracy"].value, 4),
        "error": round(by_name["logistic accuracy"].error_bar, 4),
        "protocols": {n: by_name[f"{n} accuracy"].protocol_id for n in ("knn", "logistic")},
    }
    free = {r.name: round(r.value, 6) for r in results if r.protocol["name"] == "labelfree"}
    return {**numbers, "labelfree": free}


def head_accuracy(run: Path) -> float | None:
    """Accuracy of the run's own classifier on test images, where it has one."""
    import torch
    from safetensors.torch import load_file

    from tapetum.data import open_data
    from tapetum.encoders import load
    from tapetum.features import Extractor

    if not (run / "head.safetensors").exists():
        return None
    test = Extractor(load(run)).features(open_data(f"{rows.data('cifar10.zip')}/test"))
    head, classes = load_file(run / "head.safetensors"), read_json(run / "head.json")["classes"]
    logits = torch.from_numpy(np.array(test.x)) @ head["weight"].T + head["bias"]
    said = [classes[i] for i in logits.argmax(1).tolist()]
    return round(float(np.mean([a == b for a, b in zip(said, test.source.label_names())])), 4)


def learn(one: Recipe, seed: int, budget: str, file: Path) -> None:
    """One row: train, then measure."""
    done = {(r["row"], r["seed"], r.get("recipe")) for r in rows.kept(file)}
    if (one.name, seed, one.fingerprint) in done:
        return
    out, seconds, one_go = train(one, seed, ROOT / "runs" / budget)
    metrics, history = read_lines(out / "metrics.jsonl"), read_lines(out / "health.jsonl")
    health = history[-1]
    steps = [m for m in metrics if "rate" in m]
    late = [m["loss"] for m in steps[-max(1, len(steps) // 10) :]]
    row = {
        "row": one.name,
        "seed": seed,
        "method": one.method,
        "kind": one.kind,
        "recipe": one.fingerprint,
        **({"after": [first.name for first in one.after.values()]} if one.after else {}),
        "seconds": round(seconds, 1),
        "one_go": one_go,
        "epochs": round(metrics[-1]["epoch"], 2),
        "images_per_second": round(float(np.median([m["rate"] for m in steps])), 1),
        "memory": max(m["memory"] for m in steps),
        "first_loss": round(steps[0]["loss"], 4),
        "loss": round(float(np.mean(late)), 4),
        **({} if one.trivial is None else {"trivial": one.trivial}),
        **{n: round(health[n], 4) for n in ("gap", "gap_error") if n in health},
        "health": health["verdict"],
        "watching": round(sum(look.get("seconds", 0.0) for look in history) / steps[-1]["time"], 4),
        "alarms": [f"{look['verdict']} at {look['step']}" for look in history if look["try"]],
        **measure(out),
    } | ({} if (own := head_accuracy(out)) is None else {"classifier": own})
    keep(file, row)
    looks.keep(row, history)


def baselines(used: Mapping[str, Recipe], seeds: list[int], file: Path) -> None:
    """Rows of raw pixels, and of random weights of the encoders that the recipes use."""
    import torch

    from tapetum import encoders
    from tapetum.evaluate.baselines import pixels

    done = {(r["row"], r["seed"]) for r in rows.kept(file)}
    if ("pixels", 0) not in done:
        keep(file, {"row": "pixels", "seed": 0, **measure(pixels())})
    for name, given in encoders_used(used).items():
        for seed in seeds:
            if (f"random weights ({name})", seed) not in done:
                torch.manual_seed(seed)
                settings = {k: v for k, v in given.items() if k != "name"}
                encoder = encoders.build(given["name"], 32, **settings)
                keep(
                    file,
                    {"row": f"random weights ({name})", "seed": seed, "encoder": given}
                    | measure(encoder.eval()),
                )


def encoders_used(used: Mapping[str, Recipe]) -> dict[str, dict]:
    """The encoders of the recipes, each under its kinds or the recipes that use it."""
    users: dict[str, list[str]] = {}
    for one in used.values():
        users.setdefault(json.dumps(one.settings["encoder"]), []).append(one.kind or one.name)
    return {", ".join(sorted(set(names))): json.loads(given) for given, names in users.items()}


def write() -> None:
    """Rewrite the tables and docs/methods.md."""
    budgets = ("two-minutes", "ten-minutes")
    known = {b: {name: one.fingerprint for name, one in recipes(b).items()} for b in budgets}
    known["two-minutes"] |= {name: one.fingerprint for name, one in beside_lightly().items()}
    learned.write(known)


def keep(file: Path, row: dict) -> None:
    """Keep a row and show it."""
    row = {**row, **rows.facts()}
    rows.keep(file, row)
    print(json.dumps(row), flush=True)


def main() -> None:
    """Train what is asked and not yet done, seed by seed so that every method has a row early."""
    parser = rows.parser(__doc__)
    parser.add_argument("methods", nargs="*", help="names of recipes, or baselines; all by default")
    parser.add_argument("--budget", choices=("two-minutes", "ten-minutes"), default="two-minutes")
    parser.add_argument("--seeds", help="separated by commas [0; 0,1,2 beside lightly]")
    parser.add_argument("--beside-lightly", action="store_true", help="ours and lightly's in turn")
    parser.add_argument("--table", action="store_true", help="only rewrite the tables")
    asked = parser.parse_args()
    known = beside_lightly() if asked.beside_lightly else recipes(asked.budget)
    file = RESULTS / f"cifar10-{asked.budget}.jsonl"
    seeds = asked.seeds or ("0,1,2" if asked.beside_lightly else "0")
    if wrong := set(asked.methods) - {*known, "baselines"}:
        sys.exit(f"error: there is no recipe for {', '.join(sorted(wrong))}; there are {', '.join(known)}.")
    wanted = [name for name in known if not asked.methods or name in asked.methods]
    for seed in [] if asked.table else [int(s) for s in seeds.split(",")]:
        for name in wanted:
            learn(known[name], seed, asked.budget, file)
        if "baselines" in asked.methods or not (asked.methods or asked.beside_lightly):
            baselines(known, [seed], file)
        write()
    write()


if __name__ == "__main__":
    main()
