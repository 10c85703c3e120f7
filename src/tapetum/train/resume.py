"""Whether a run begins or goes on, in which folder, and that what goes on is the same run."""

import shlex
from pathlib import Path
from typing import Any

import torch

from tapetum.base import distributed
from tapetum.base.console import warn
from tapetum.base.errors import TapetumError
from tapetum.base.files import digest, read_lines, short_id, write_lines
from tapetum.train import config, setup, stranger
from tapetum.train.sharding import is_split


def where(resume: str | None, out: Path | None, plan: bool) -> tuple[bool, Path | None]:
    """Whether to go on with a run, and in which folder. A run's folder is never overwritten."""
    if plan:
        if resume not in (None, "auto"):
            raise TapetumError("--plan shows what a new run would do; leave out --resume.")
        return False, out
    place = out if resume in (None, "auto") else Path(str(resume))
    if place and (place / "config.yaml").exists():
        stranger.no_way_out(place)
    if resume not in (None, "auto"):
        folder = Path(str(resume))
        if not (folder / "config.yaml").exists():
            raise TapetumError(f"{folder} is not a run: it has no config.yaml.")
        if out not in (None, folder):
            raise TapetumError(f"--resume {folder} goes on in that folder; leave out --out {out}.")
        return True, folder
    if out is None:
        raise TapetumError("pretrain needs --out RUN, the folder for the run.")
    if (out / "config.yaml").exists():
        if resume == "auto":
            return True, out
        again = f"--resume {shlex.quote(str(out))}"
        raise TapetumError(f"{out} already holds a run; go on with {again}, or choose another --out.")
    # what a run that was killed before its config.yaml stood leaves behind
    begun = {".lock"} | ({"method.py", "skipped.jsonl"} if resume == "auto" else set())
    if out.exists() and (
        not out.is_dir() or any(p.suffix != ".part" and p.name not in begun for p in out.iterdir())
    ):
        raise TapetumError(f"{out} exists and is not an empty folder; choose another --out.")
    return False, out


def still_free(folder: Path, resume: bool) -> None:
    """Refuse to begin where another process has begun a run since `where` looked; the folder is claimed."""
    if not resume and (folder / "config.yaml").exists():
        raise TapetumError(f"{folder} has become another run meanwhile; choose another --out.")
    distributed.gather(torch.zeros(1))  # none begins before all have looked


def continued(folder: Path, given: dict[str, Any], groups: dict[str, dict]) -> tuple[dict[str, Any], dict]:
    """The run's own settings, with machine settings as now; learning settings that differ are refused."""
    saved = config.read(folder / "config.yaml")
    stranger.closed(folder, saved, given)
    stranger.typed(folder, saved, given)
    own, own_groups = config.split(saved)
    if lacking := {"data", "fingerprint", "method", "steps"} - saved.keys():
        raise TapetumError(f"{folder}/config.yaml does not describe a run: it has no {min(lacking)}.")
    if str(own["method"]).endswith(".py"):
        own["method"] = _typed_again(given["method"], folder, saved.get("method_sha256"))
        given = {**given, "method": None}
    learning = {name: setup.plain(value) for name, value in given.items() if name not in config.BOUND}
    config.refuse_changes(saved, learning)
    parsed = config.parsed(groups, own["method"])
    config.refuse_changes(
        saved, {f"{g}.{n}": setup.plain(v) for g, values in parsed.items() for n, v in values.items()}
    )
    kept = {**given, **own, "budget": None}
    for name in config.MACHINE:
        if given.get(name) is not None:
            kept[name] = given[name]
    if given["data"] is not None:
        kept["data"] = given["data"]
    return kept, own_groups


def _typed_again(method: str | None, folder: Path, sha256: str | None) -> str:
    """The run's copy of a method's file: code runs only where a person has typed its name, also on resume."""
    copy = folder / "method.py"
    if method is None:
        again = f"--method {shlex.quote(str(copy))}"
        raise TapetumError(f"{folder} began with a method of somebody's own; to run it, add {again}.")
    if not Path(method).is_file() or Path(method).read_bytes() != copy.read_bytes():
        raise TapetumError(f"{method} is not the method that {folder} began with; that one is {copy}.")
    if digest(copy) != sha256:
        raise TapetumError(f"{copy} is not what it was when {folder} began; start a new run with it.")
    return str(copy)


def identity(folder: Path) -> str:
    """12 hex digits that name a run by what it learns from and how; its checkpoints bear them."""
    own = config.read(folder / "config.yaml")
    return short_id({n: str(v) for n, v in own.items() if n not in (*config.MACHINE, *config.BOUND)})


def known(folder: Path, job: setup.Job, planned: int, scaler: torch.amp.GradScaler | None) -> dict[str, Any]:
    """What a checkpoint is to know besides method and optimiser. planned: how many images at once were asked
    for."""
    return {
        "run": identity(folder),
        "method": job.config["method"],
        "threads": torch.get_num_threads(),
        "micro_batch": [planned, job.feed.micro_batch],
        "scaler": scaler.state_dict() if scaler else None,
    }


def taken_up(facts: dict[str, Any], job: setup.Job, scaler: torch.amp.GradScaler | None) -> None:
    """Give a run what its checkpoint knows besides method and optimiser."""
    if scaler and facts["scaler"]:
        scaler.load_state_dict(facts["scaler"])
    planned, portion = facts["micro_batch"]
    if planned == job.feed.micro_batch and not is_split(job.method):  # else another was asked for
        job.feed.micro_batch = portion  # a smaller one where memory ran out
    if facts["threads"] != torch.get_num_threads() and job.device.type == "cpu":
        warn(
            f"the checkpoint was made with {facts['threads']} threads, this process has "
            f"{torch.get_num_threads()}: the last bits may differ."
        )


def check_alike(step: int) -> None:
    """Refuse to go on where processes have found different checkpoints."""
    steps = distributed.gather(torch.tensor([step])).tolist()
    if len(set(steps)) > 1:
        raise TapetumError(
            f"the processes would go on from steps {steps}: all must be able to read the same checkpoints."
        )


def cut(metrics: Path, step: int) -> dict[str, float]:
    """Remove the numbers written after a step; gives those from before training."""
    rows = [row for row in read_lines(metrics) if row["step"] <= step and (step or row["step"])]
    write_lines(metrics, rows)
    return next((row for row in rows if row["step"] == 0), {})


def check_same(folder: Path, job: setup.Job) -> None:
    saved = config.read(folder / "config.yaml")
    if saved["fingerprint"] != job.source.fingerprint():
        raise TapetumError(
            f"the images of {job.source.name} are not those that the run {folder} began with "
            f"(fingerprint {job.source.fingerprint()[:12]}, the run's is {saved['fingerprint'][:12]})."
        )
