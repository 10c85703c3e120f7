"""Does everything hostile in one process with little memory, under guard; says in JSON lines what came of it.

python -m hostile.harness FOLDER RESULTS all|planted [SKIP]: planted takes away one kind of defence at a time.
"""

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

from hostile import acts, archives, arrays, images, runs, tables, weights
from hostile.guard import Guard, tree
from hostile.made import Case, photos
from hostile.planted import HANGS, PLANTS, Plant
from tapetum.base.harmless import harmless

CASES: list[Case] = [c for part in (archives, images, tables, arrays, weights, runs) for c in part.CASES]
ROOM = 2 * 2**30  # bytes of addresses beyond those of a process that has loaded torch
MEMORY = 700 * 2**20  # bytes that a case may add to the most that the process has ever held
PATIENCE = 20  # seconds of the processor; and sixty times as many on the clock, for what waits
LITTLE = 1.5  # for what is known to hang
MUCH = 60  # for what takes long where a defence is missing, and ends


class Hangs(BaseException):
    """It takes too long."""


def _late(*_: object) -> None:
    raise Hangs


def setting(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 60 * seconds)


def tried(case: Case, folder: Path, guard: Guard, seconds: float) -> dict:
    """One case: its outcome, and what is wrong with that."""
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    (place / "out").mkdir(parents=True)
    os.chdir(place)
    if case.act in ("labels", "auto", "with_settings"):
        photos(place / "photos")
    name = case.make(place) or "it"
    name = (
        name
        if (place / name).exists() or name.startswith("/")
        else next((n for n in ("it", "it.zip", "it.tar", "it.csv") if (place / n).exists()), name)
    )
    before, held = tree(place), _held()
    printed = io.StringIO()
    began = time.process_time()
    kind, words, wrong = "none", "", []
    own = [place / "out", folder / "cache", folder / "tmp"]
    if case.act == "resume":  # a run that goes on is locked, in its folder
        own.append(place / name / ".lock")
    with guard.watching(place, *own) as seen:
        try:
            setting(seconds)
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                kind, words = acts.do(case.act, name)
        except Hangs:
            wrong.append(f"{HANGS} within {seconds} s of the processor")
        except BaseException:
            setting(0)
            wrong.append(f"it is no TapetumError: {traceback.format_exc()[-1200:]}")
        finally:
            setting(0)
    spent, more = time.process_time() - began, _held() - held
    wrong += [f"it did {event}" for event in seen]
    after = tree(place)
    changed = [
        n for n in before.keys() | after.keys() if before.get(n) != after.get(n) and n.split("/")[0] != "out"
    ]
    wrong += [f"it changed {sorted(changed)[:5]}"] if changed else []
    wrong += ["code ran: there is a canary"] if list(place.rglob("canary")) else []
    wrong += [f"it took {more / 2**20:.0f} MB"] if more > MEMORY else []
    wrong += _judged(case, kind, words, printed.getvalue())
    return {
        "name": case.name,
        "kind": kind,
        "words": words[:600],
        "wrong": wrong,
        "seconds": round(spent, 2),
        "mb": more >> 20,
    }


def _judged(case: Case, kind: str, words: str, printed: str) -> list[str]:
    wrong = []
    if kind != "none" and case.says not in words + printed:
        wrong.append(f"it does not say {case.says!r}: {words[:600]} | {printed[-300:]}")
    if case.act == "image" and not case.says and kind == "value":
        wrong.append(f"it was taken for an image: {words}")
    if harmless(printed, keep="\n\t\r") != printed:
        wrong.append(f"it printed what acts on a terminal: {printed[-300:]!r}")
    if any(
        word in words
        for word in ("allocate memory", "Unable to allocate", "MemoryError", "not enough memory")
    ):
        wrong.append(f"only the limit of memory stopped it: {words[:300]}")
    return wrong


def _held() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _limited() -> None:
    sys.modules["numba"] = None  # type: ignore[assignment] - it compiles for longer than all the rest takes
    import tapetum.base.torchvision_compat  # noqa: F401 - as in all tests, before the limit
    from tapetum import cli, encoders, pages  # noqa: F401
    from tapetum.report import story  # noqa: F401

    encoders.build("resnet10_w32", 32)
    addresses = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (addresses + ROOM, addresses + ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _late)
    signal.signal(signal.SIGALRM, _late)


def main(folder: Path, results: Path, planted: bool, skip: int) -> None:
    for name in ("cache", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    _limited()
    guard = Guard()
    known = {case.name: case for case in CASES}
    jobs: list[tuple[Plant | None, Case, float]] = [(None, case, PATIENCE) for case in CASES]
    if planted:
        jobs = [
            (plant, known[name], LITTLE if HANGS in shown else MUCH)
            for plant in PLANTS
            for name, shown in plant.jobs()
        ]
    with results.open("a") as out:
        for number, (plant, case, seconds) in enumerate(jobs):
            if number < skip:
                continue
            out.write(json.dumps({"begun": number}) + "\n")
            out.flush()
            with contextlib.ExitStack() as stack:
                try:
                    if plant:
                        stack.enter_context(plant.taken_away())
                except Exception as error:
                    found = {"wrong": [], "unplanted": f"{type(error).__name__}: {error}"}
                else:
                    found = tried(case, folder, guard, seconds)
            out.write(json.dumps({"number": number, **found}, default=str) + "\n")
            out.flush()
            os.chdir(folder)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]).resolve(),
        Path(sys.argv[2]).resolve(),
        sys.argv[3:4] == ["planted"],
        int((sys.argv[4:5] or ["0"])[0]),
    )
