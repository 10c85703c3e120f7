"""Ablation: runs that differ in a few settings, on equal budgets, trained and measured, in one table."""

import contextlib
import io
import itertools
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tapetum import verbs
from tapetum.base import settings
from tapetum.base.console import say, table, warn
from tapetum.base.errors import TapetumError, TrainingFailed, unknown
from tapetum.base.files import read_json, short_id, write_json
from tapetum.data import Source
from tapetum.evaluate import suites
from tapetum.evaluate.protocols import needs_labels
from tapetum.evaluate.result import Result, finite
from tapetum.evaluate.run import shown
from tapetum.train import config, defaults, launch, setup

FIXED = ("data", "out", "resume", "plan", "budget", "seed", "logger", "test_data")  # of all runs alike
Flat = dict[str, Any]  # settings by name: {"method": "simclr", "method.temperature": "0.2"}


@dataclass
class Cell:
    """One combination of settings.

    Args:
        replaced: the settings in which it differs from the base, as they were typed.
        runs: the folders of its runs, one a seed.
        results: what was measured, a list for each run.
        failed: why runs that could not be trained ended.
        random: what the same network with random weights gives, by protocol id.
    """

    replaced: Flat
    runs: list[Path] = field(default_factory=list)
    results: list[list[Result]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    random: dict[str, Result] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.replaced.items()) or "base"

    @property
    def folder(self) -> str:
        """Its name as every file system takes it."""
        plain = re.sub(r"[^\w.,=+-]+", "_", self.name)
        return plain if plain == self.name and len(plain) < 100 else f"{plain[:80]}-{short_id(self.replaced)}"

    def number(self, protocol_id: str) -> tuple[Result | None, list[float]]:
        """A measured number, with the mean and error over seeds where there are several, and each seed's."""
        found = [r for one in self.results for r in of_encoder(one) if r.protocol_id == protocol_id]
        values = [r.value for r in found]
        if len(values) < 2:
            return (found[0] if found else None), values
        error = statistics.stdev(values) / len(values) ** 0.5
        return replace(found[0], value=statistics.mean(values), error_bar=error), values


def ablate(
    data: Any,
    *,
    out: str,
    vary: Sequence[str],
    one_at_a_time: bool,
    seeds: Sequence[int],
    protocols: Sequence[str],
    protocol_settings: dict[str, dict[str, Any]] | None,
    own: Flat,
    groups: dict[str, Flat],
) -> dict[str, Any]:
    """The body of the verb `ablate`; see tapetum.ablating.ablate for the settings.

    own: the base run's settings of `pretrain`, None where one is left open; groups: its `method.*` and so on.
    """
    if launch.launched():
        raise TapetumError("ablate starts the processes of each run by itself: give --devices, not torchrun.")
    base = {name: value for name, value in own.items() if value is not None}
    base |= {f"{group}.{name}": value for group, given in groups.items() for name, value in given.items()}
    factors = read(vary)
    if not seeds:
        raise TapetumError("ablate needs at least one of --seeds.")
    check_lengths(base, factors)
    cells = one_by_one(factors) if one_at_a_time else grid(factors)
    folder, how = Path(out), {"protocols": list(protocols), "protocol_settings": protocol_settings or {}}
    sources: dict[Any, Source] = {}
    for cell in cells:
        check(data, base | cell.replaced, sources, how)
    remember(folder, base, next(iter(sources.values())))

    todo = [(cell, seed) for cell in cells for seed in seeds]
    seen: dict[str, dict[str, Result]] = {}  # random weights by network
    for number, (cell, seed) in enumerate(todo, 1):
        run = folder / cell.folder / f"seed{seed}"
        if not (run / "encoder.json").exists():  # what a run writes last
            say(f"\nrun {number} of {len(todo)}: {cell.name}, seed {seed}")
            try:
                pretrain(data, run, seed, base | cell.replaced)
            except TrainingFailed as error:
                warn(str(error))
                cell.failed.append(f"seed {seed}: {error}")
                continue
        network = short_id({k: v for k, v in read_json(run / "encoder.json").items() if k != "digest"})
        found = measured(data, run, base | cell.replaced, how, baselines=network not in seen)
        seen.setdefault(network, {r.protocol_id: r for r in found if r.row == "random weights"})
        cell.runs.append(run)
        cell.results.append(found)
        cell.random = seen[network]
    show(cells, factors, seeds)
    rows = [described(cell) for cell in cells]
    answer = {**read_json(folder / "ablation.json"), "factors": factors, "seeds": list(seeds), "rows": rows}
    write_json(folder / "ablation.json", finite(answer))
    say(f"saved in {folder / 'ablation.json'}; image by image: tapetum compare RUN RUN")
    return answer


# ---- what is to be run ----


def read(vary: Sequence[str]) -> dict[str, list[str]]:
    """`method.temperature=0.1,0.2` as {"method.temperature": ["0.1", "0.2"]}, in the order typed."""
    found: dict[str, list[str]] = {}
    known = settings.allowed(verbs.pretrain)
    names = [n for n in known if n not in FIXED and not n.endswith("_settings")]
    for text in vary:
        name, _, typed = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        parts = typed.removesuffix(";").split(";") if ";" in typed else typed.split(",")
        values = [value.strip() for value in parts]
        if not all(values):
            raise TapetumError(
                f"--vary {text!r} lacks a value; write NAME=VALUE,VALUE, or NAME=VALUE; VALUE; where values "
                "hold commas."
            )
        group, dot, _ = name.partition(".")
        if name not in names and not (dot and group in config.GROUPS):
            raise unknown("setting to vary", name, [*names, *(f"{g}.*" for g in config.GROUPS)])
        if name in found or len(set(values)) < len(values):
            raise TapetumError(f"--vary names {name} or one of its values twice.")
        found[name] = values
    return found


def check_lengths(base: Flat, factors: dict[str, list[str]]) -> None:
    """All runs have one budget: epochs or steps are given, and not both."""
    if len({"epochs", "steps"} & {*base, *factors}) != 1:
        raise TapetumError("ablate needs either --epochs or --steps, so that all runs have the same budget.")


def grid(factors: dict[str, list[str]]) -> list[Cell]:
    """All combinations."""
    return [Cell(dict(zip(factors, values))) for values in itertools.product(*factors.values())]


def one_by_one(factors: dict[str, list[str]]) -> list[Cell]:
    """The base, and each value alone."""
    return [Cell({}), *(Cell({name: value}) for name, values in factors.items() for value in values)]


def check(data: Any, flat: Flat, sources: dict[Any, Source], how: dict[str, Any]) -> None:
    """Raise TapetumError for whatever a run with these settings, or its measuring, would refuse."""
    own, groups = config.split(flat)
    given: Flat = dict.fromkeys(settings.allowed(verbs.pretrain)) | defaults.PLAIN
    given |= settings.check("setting of pretrain", own, verbs.pretrain)
    key = given["labels"], given["split"]
    if key not in sources:
        sources[key] = setup.source_of(data, *key)
    setup.settled(given, config.parsed(groups, given["method"]), sources[key])
    entries = suites.read(how["protocols"], how["protocol_settings"]).entries
    if sources[key].labels is None and any(needs_labels(e.name, e.settings) for e in entries):
        raise TapetumError(f"{sources[key].name} has no labels to measure by; give them with --labels.")


def remember(folder: Path, base: Flat, source: Source) -> None:
    """Write down what all runs share; TapetumError where the folder's runs began with something else."""
    learning = {n: setup.plain(v) for n, v in base.items() if n not in (*config.MACHINE, "labels")}
    facts = {"images": source.fingerprint(), "base": finite(learning)}
    file = folder / "ablation.json"
    if not file.exists():
        write_json(file, facts)
        return
    before = read_json(file)
    old, new = ({"the images": f["images"], **f["base"]} for f in (before, facts))
    wrong = [n for n in {**old, **new} if not config.same(old.get(n), new.get(n))]
    if wrong:
        raise TapetumError(
            f"{folder} began with other settings: {', '.join(wrong)} differ; go on with those, or choose "
            "another --out."
        )


# ---- running and measuring ----


def pretrain(data: Any, run: Path, seed: int, flat: Flat) -> None:
    own, groups = config.split(flat)
    own |= {f"{name}_settings": values for name, values in groups.items()}
    verbs.pretrain(data, out=str(run), resume="auto", seed=seed, **own)


def measured(data: Any, run: Path, flat: Flat, how: dict[str, Any], baselines: bool) -> list[Result]:
    """What the protocols find; kept in the run's folder, and not measured twice."""
    kept, same = run / "measured.json", ("labels", "test_data", "workers")
    given = {name: flat[name] for name in same if name in flat}
    given |= {"device": "cpu"} if flat.get("devices") == "cpu" else {}
    digest = read_json(run / "encoder.json")["digest"]
    asked = finite({**how, "test_data": str(flat.get("test_data")), "digest": digest})
    if kept.exists() and (before := read_json(kept))["asked"] == asked:
        found = [Result.from_json(facts, str(kept)) for facts in before["results"]]
        if not baselines or any(r.row == "random weights" for r in found):
            return found
    with contextlib.redirect_stdout(io.StringIO()):
        found = verbs.evaluate(str(run), train_data=data, baselines=baselines, **how, **given)
    write_json(kept, {"asked": asked, "results": [finite(r.to_json()) for r in found]})
    return found


# ---- what came of it ----


def numbers(cells: Sequence[Cell]) -> dict[str, Result]:
    """Every number that an encoder has, by protocol id."""
    return {r.protocol_id: r for cell in cells for found in cell.results for r in of_encoder(found)}


def of_encoder(results: Sequence[Result]) -> list[Result]:
    """Those of the encoder itself, without its baselines."""
    return [r for r in results if r.row == "encoder"]


def show(cells: Sequence[Cell], factors: dict[str, list[str]], seeds: Sequence[int]) -> None:
    """A row for each combination; beside each number that of the same network with random weights."""
    ids = numbers(cells)
    rows = []
    for cell in cells:
        row = [str(cell.replaced.get(name, "base")) for name in factors]
        for i in ids:
            result, _ = cell.number(i)
            row += [shown(r) if r else "" for r in (result, cell.random.get(i))]
        rows.append(row)
    say()
    table(rows, [*factors, *(text for r in ids.values() for text in (r.title, "random weights"))])
    kinds = ", ".join(dict.fromkeys(r.error_kind for r in ids.values()))
    say(f"± one standard error: {f'over {len(seeds)} seeds' if len(seeds) > 1 else kinds}")


def described(cell: Cell) -> dict[str, Any]:
    """A row as JSON has it."""
    found, failed = {}, {"failed": cell.failed} if cell.failed else {}
    for i, first in numbers([cell]).items():
        result, values = cell.number(i)
        assert result
        random = cell.random.get(i)
        found[first.title] = {
            "value": result.value,
            "error": result.error_bar,
            "each": values,
            "random_weights": random.value if random else None,
        }
    return {"replaced": cell.replaced, "runs": [str(run) for run in cell.runs], **failed, "numbers": found}
