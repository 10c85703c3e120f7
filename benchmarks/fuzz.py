"""Feeds damaged and hostile inputs to every parser that meets outside bytes, and counts what goes wrong.

    python -m benchmarks.fuzz                      # 20 minutes of each parser without a finding: many hours
    python -m benchmarks.fuzz zip tar --minutes 5  # of two of them
    python -m benchmarks.fuzz --minimise           # shorten what was found; keep it as cases of tests/fuzz
    python -m benchmarks.fuzz --table              # only rewrite the table in docs/trust.md

Minutes are those of the processor, and add up over calls; after a finding they begin anew, for it is mended
and what stands then is what counts. Guided by coverage where atheris is installed (pip install
'tapetum[fuzz]', Linux). Allowed is a value, an image that is left out with a reason, or one sentence; a
finding is anything else: another exception, more than 10 seconds or 500 MB, a file written elsewhere, a
program begun, a connection, a process that dies. It is kept in runs/fuzz/PARSER/crash-ID, and why beside it.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import rows
from benchmarks.fuzzing.child import HEAD
from benchmarks.fuzzing.judge import judged
from benchmarks.fuzzing.mutate import minimised
from benchmarks.fuzzing.targets import CASES, TARGETS, cases, encoded

ROWS = rows.RESULTS / "fuzz.jsonl"
FOUND = rows.ROOT / "runs" / "fuzz"
PAGE = rows.ROOT / "docs" / "trust.md"
BEGIN, END = "<!-- fuzzing: written by python -m benchmarks.fuzz -->", "<!-- end of fuzzing -->"
CHILD = ("-m", "benchmarks.fuzzing.child")
SILENCE = 600  # seconds without a word after which a process is ended
LONGEST = 600  # seconds of the processor that one process feeds, so that memory which leaks goes


def clean_minutes(name: str) -> float:
    """Minutes of this parser since its last finding."""
    own = [row for row in rows.kept(ROWS) if row["parser"] == name]
    last = max((i for i, row in enumerate(own) if row["findings"]), default=-1)
    return sum(row["cpu_minutes"] for row in own[last + 1 :])


def feed(name: str, seconds: float, seed: int, program: tuple[str, ...] = CHILD) -> dict:
    """One process; what it counted, and whether it died of an input."""
    folder = FOUND / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in ("last", "findings.json", "faults.txt"):
        (folder / old).unlink(missing_ok=True)
    words = [sys.executable, *program, name, str(seconds), str(seed), str(folder)]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(words, cwd=rows.ROOT, stdout=log, stderr=log)
        try:
            why = waited(process, folder / "last")
        finally:
            process.kill()
            process.wait()
    if not (folder / "last").exists():
        sys.exit(f"error: {name} could not be begun: {(folder / 'log.txt').read_text()[-2000:]}")
    length, executions, taken = counted(folder / "last")
    said = folder / "findings.json"
    findings = json.loads(said.read_text()) if said.exists() else {}
    if why:
        id = f"death{abs(process.returncode)}"
        (folder / f"crash-{id}").write_bytes((folder / "last").read_bytes()[HEAD.size :][:length])
        (folder / f"why-{id}.txt").write_text(f"{why}\n\n{(folder / 'faults.txt').read_text()[-4000:]}")
        findings[id] = why
    return {"seconds": taken, "executions": executions, "findings": findings}


def counted(file: Path) -> tuple[int, int, float]:
    """Length of the input of the moment, inputs before it, and seconds of the processor."""
    with file.open("rb") as opened:
        return HEAD.unpack(opened.read(HEAD.size))


def waited(process: subprocess.Popen, file: Path) -> str:
    """Wait for its end; why that came too early, or nothing."""
    silent, before = 0.0, -1
    while process.poll() is None:
        time.sleep(0.2)
        now = counted(file)[1] if file.exists() and file.stat().st_size else -1
        silent = silent + 0.2 if now == before else 0.0  # of a clock that stands still while both are halted
        before = now
        if silent > SILENCE:
            return "it hung"
    code = process.returncode
    return (
        "" if code == 0 else f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}"
    )


def campaign(name: str, minutes: float, dry: bool) -> None:
    """Feed a parser until it has had so many minutes without a finding; at most so many in one go."""
    spent = 0.0
    while (left := min(minutes - (0 if dry else clean_minutes(name)), minutes - spent)) > 0.01:
        seed = sum(row["parser"] == name for row in rows.kept(ROWS)) + (time.time_ns() % 10**6 if dry else 0)
        said = feed(name, min(60 * left, LONGEST), seed)
        spent += (taken := max(said["seconds"] / 60, 0.02))
        row = {"parser": name, "cpu_minutes": round(taken, 2), "executions": said["executions"]}
        row |= {"findings": sorted(said["findings"].values())}
        if not dry:
            rows.keep(ROWS, row | rows.facts(("atheris", "pillow", "pyarrow", "safetensors")))
        print(f"{name}: {taken:.1f} minutes, {said['executions']:,} inputs", flush=True)
        print(*(f"  {why}\n" for why in row["findings"]), sep="", end="", flush=True)


def minimise(names: list[str]) -> None:
    """Shorten what was found, and keep each as a case of the tests."""
    known = {(case["parser"], case["id"]) for case in cases()}
    for name in names:
        for file in sorted((FOUND / name).glob("crash-*")):
            id, target = file.name.removeprefix("crash-"), TARGETS[name]
            if (name, id) in known or id.startswith("death"):  # which would end this process, too
                continue
            with tempfile.TemporaryDirectory() as work:
                if target.beside:
                    target.beside(Path(work))

                def same(data: bytes, id=id, target=target, work=work) -> bool:
                    found = judged(target, data, Path(work))
                    return found is not None and found.id == id

                data = file.read_bytes()
                if not same(data):
                    print(f"{file.name} of {name} is no finding any more")
                    continue
                short = minimised(data, same)
            why = (FOUND / name / f"why-{id}.txt").read_text().splitlines()[0][:150]
            rows.keep(CASES, {"parser": name, "id": id, "why": why, "data": encoded(short)})
            print(f"{name}: {len(data):,} bytes became {len(short):,}: {why}")


def table() -> None:
    """The figures of each parser, between two marks of docs/trust.md."""
    lines = ["| parser | CPU-minutes | since the last finding | inputs | findings | kept as cases |"]
    lines += ["|---|---|---|---|---|---|"]
    for name in TARGETS:
        own = [row for row in rows.kept(ROWS) if row["parser"] == name]
        minutes, inputs = sum(row["cpu_minutes"] for row in own), sum(row["executions"] for row in own)
        found = len({why for row in own for why in row["findings"]})
        kept = sum(case["parser"] == name for case in cases())
        lines.append(
            f"| {name} | {minutes:.1f} | {clean_minutes(name):.1f} | {inputs:,} | {found} | {kept} |"
        )
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(before + "\n".join([BEGIN, "", *lines, "", END]) + rest.partition(END)[2])


def main() -> None:
    parser = rows.parser(__doc__)
    parser.add_argument("parsers", nargs="*", help=f"of {', '.join(TARGETS)}; by default all")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument(
        "--dry", action="store_true", help="keep no rows; --minutes count for this call alone"
    )
    parser.add_argument("--minimise", action="store_true")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    names = rows.chosen(",".join(asked.parsers), TARGETS) if asked.parsers else list(TARGETS)
    if asked.minimise:
        minimise(names)
    elif not asked.table:
        for name in names:
            campaign(name, asked.minutes, asked.dry)
    if not asked.dry:
        table()


if __name__ == "__main__":
    main()
