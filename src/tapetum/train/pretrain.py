"""The body of the verb `pretrain`: what is asked for, how many processes do it, and each one's lives."""

import shlex
from pathlib import Path
from typing import Any

from tapetum.base import console, distributed
from tapetum.base.console import duration, say
from tapetum.base.errors import TapetumError
from tapetum.train import config, defaults, launch, setup
from tapetum.train import resume as resume_
from tapetum.train.claim import Claim
from tapetum.train.loggers import Logger
from tapetum.train.loggers import check as check_loggers
from tapetum.train.mishaps import GoBack
from tapetum.train.run import Run
from tapetum.train.stop import Stop


def pretrain(
    data: Any = None, *, given: dict[str, Any], groups: dict[str, dict], plan: bool = False
) -> dict[str, Any]:
    """The body of the verb `pretrain`; see tapetum.verbs.pretrain for the settings.

    given: every setting by name, None where it is left open; groups: the settings `method.*` and so on.
    """
    given = {**given, "data": data}  # None where nothing was said
    if data is None and given.get("resume") is None:
        raise TapetumError("pretrain needs DATA: a folder, an archive, a list or arrays; or --resume RUN.")
    folder = Path(given["out"]) if given.get("out") else None
    resume, folder = resume_.where(given.get("resume"), folder, plan)
    if resume:
        assert folder
        given, groups = resume_.continued(folder, given, groups)
    elif data is None:
        raise TapetumError(f"there is no run in {folder} yet, so pretrain needs DATA.")
    given |= {name: value for name, value in defaults.PLAIN.items() if given.get(name) is None}
    groups = config.parsed(groups, given["method"])
    check_loggers(given["logger"] or [])
    if given.get("budget") or plan or given.get("micro_batch") == "auto":
        from tapetum.train import plan as planning

        given, report = planning.fitted(given, groups)
        if plan:
            planning.show(report)
            return report
    world = launch.count(given["devices"])
    arguments: dict[str, Any] = {"given": given, "groups": groups, "folder": folder, "resume": resume}
    if world > 1 and not launch.launched():
        launch.spawned(world, body, arguments)
        return {"run": str(folder)}
    return body(**arguments)


def body(given: dict[str, Any], groups: dict[str, dict], folder: Path, resume: bool) -> dict[str, Any]:
    """What each process does."""
    loggers: list[Logger] = []
    with Stop() as stop, launch.group(), Claim(folder):
        resume_.still_free(folder, resume)
        while True:
            try:
                return life(given, groups, folder, resume, stop, loggers)
            except GoBack:
                resume, stop.training = True, False


def life(
    given: dict[str, Any],
    groups: dict[str, dict],
    folder: Path,
    resume: bool,
    stop: Stop,
    loggers: list[Logger],
) -> dict[str, Any]:
    """A run from its beginning, or from its newest checkpoint, to its end. loggers: those that an earlier
    life made, or none yet."""
    quiet = distributed.rank() > 0
    job = setup.prepare(given, groups, quiet)
    plugin = given["method"] if given["method"].endswith(".py") else None
    run = Run(folder, job, {**given, "plugin": plugin}, loggers)
    if resume:
        resume_.check_same(folder, job)
        start = run.resume()
        run.note_environment()
        if not quiet:
            say(f"going on with {folder} at step {start:,} of {job.steps:,}")
    else:
        start = 0
        run.create()
        if not quiet:
            rows = [(name, setup.plain(c.value), c.reason) for name, c in job.choices.items()]
            console.table(rows, ("setting", "value", "why"))
    try:
        run.train(start, stop)
    except GoBack:
        run.flush()
        raise
    result = run.finish()
    if not quiet:
        say(f"done in {duration(result['seconds'])}: {folder}/encoder.safetensors")
        places = [str(folder), "--train-data", job.config["data"]]
        say(f"measure it with: {shlex.join(['tapetum', 'evaluate', *places])}")
    return result
