"""The process that feeds one parser: guided by coverage where atheris is installed, else by chance alone.

    python -m benchmarks.fuzzing.child PARSER SECONDS SEED FOLDER

Whatever the parser does to this process (a signal, memory, a hang), the process that began it finds in
FOLDER what was counted, and the input that came last.
"""

import contextlib
import faulthandler
import hashlib
import json
import mmap
import os
import random
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HEAD = struct.Struct("<IQd")  # bytes of the input that follows, inputs before it, seconds of the processor
MOST = 2**20  # bytes of an input
ROOM = 4_000_000_000  # bytes of addresses beyond those that the start takes
INSTRUMENTED = ["tapetum", "PIL", "zipfile", "tarfile", "yaml", "numpy.lib", "http", "email", "safetensors"]
ORDINARY = ("segv", "bus", "abrt", "ill", "fpe", "int", "term", "xfsz", "usr1", "usr2")


class Feeding:
    """One parser, what was counted, and where it is kept.

    Args:
        target: the parser.
        folder: gets `last` (HEAD, and the input of the moment), `findings.json` and `crash-ID`.
        seconds: of the processor, after which it ends.
    """

    def __init__(self, target: Any, folder: Path, work: Path, seconds: float):
        self.target, self.folder, self.work, self.seconds = target, folder, work, seconds
        self.executions, self.findings = 0, {}
        self.began = time.process_time()
        with (folder / "last").open("wb") as file:
            file.truncate(HEAD.size + MOST)
        with (folder / "last").open("r+b") as file:
            self.last = mmap.mmap(file.fileno(), 0)
        if target.beside:
            target.beside(work)

    def one(self, data: bytes) -> bool:
        """Give it one input; False when the time is over."""
        from benchmarks.fuzzing.judge import PATIENCE, judged

        seconds = time.process_time() - self.began
        self.last[: HEAD.size + len(data)] = HEAD.pack(len(data), self.executions, seconds) + data
        signal.setitimer(signal.ITIMER_PROF, 2 * PATIENCE)
        found = judged(self.target, data, self.work)
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.executions += 1
        if found:
            self.keep(found, data)
        return seconds < self.seconds

    def keep(self, found: Any, data: bytes) -> None:
        """One input for each place in the code, the shortest."""
        file = self.folder / f"crash-{found.id}"
        if found.id not in self.findings or len(data) < file.stat().st_size:
            file.write_bytes(data)
            file.with_name(f"why-{found.id}.txt").write_text(
                f"{found.why}\n\n{found.trace}", errors="replace"
            )
        if found.id not in self.findings:
            self.findings[found.id] = found.why
            (self.folder / "findings.json").write_text(json.dumps(self.findings))


def changed(target: Any, data: bytes, dice: random.Random, others: list[bytes]) -> bytes:
    """Another input, mostly with its checksums right."""
    from benchmarks.fuzzing.mutate import mutated

    data = mutated(data, dice, others)
    return target.mend(data) if target.mend and dice.random() < 0.8 else data


def by_chance(one: Callable[[bytes], bool], target: Any, inputs: list[bytes], seed: int) -> None:
    """Feed the inputs, then changed ones, until the time is over."""
    dice = random.Random(seed)
    going = all(one(data) for data in inputs)
    while going:
        going = one(changed(target, dice.choice(inputs), dice, inputs))


def guided(atheris: Any, feeding: Feeding, inputs: list[bytes], seed: int) -> None:
    """The same by libFuzzer, which keeps inputs that reach new code."""
    corpus = feeding.folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for data in inputs:
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def one(data: bytes) -> None:
        if not feeding.one(data):
            os._exit(0)

    def custom(data: bytes, most: int, seed: int) -> bytes:
        dice = random.Random(seed)
        if dice.random() < 0.4:
            data = atheris.Mutate(data, len(data) + 16)
            data = feeding.target.mend(data) if feeding.target.mend and dice.random() < 0.8 else data
        else:
            data = changed(feeding.target, data, dice, inputs)
        return data[:most]

    options = [f"-seed={seed + 1}", "-max_len=65536", "-rss_limit_mb=0", "-malloc_limit_mb=0"]
    options += [f"-handle_{name}=0" for name in ORDINARY] + ["-verbosity=0", "-detect_leaks=0"]
    options += [f"-artifact_prefix={feeding.folder}/"]  # else what it finds slow lies in the working folder
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=custom)
    atheris.Fuzz()


def limit_memory() -> None:
    """No more addresses than some beyond those of now, so that a header that lies meets a MemoryError."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))


def engine() -> Any:
    try:
        import atheris
    except ImportError:
        return None
    return atheris


def named(name: str) -> tuple[Any, list[bytes]]:
    """A parser and what it is fed first."""
    from benchmarks.fuzzing.targets import TARGETS, regressions

    return TARGETS[name], [*TARGETS[name].seeds(), *regressions(name)]


def begin(prepared: Callable[[], tuple[Any, list[bytes]]], place: Path, seconds: float, seed: int) -> None:
    """Feed a parser, which is imported by `prepared`, so that its code can be followed."""
    atheris = engine()
    importing = atheris.instrument_imports(include=INSTRUMENTED) if atheris else contextlib.nullcontext()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work, (place / "faults.txt").open("w") as faults:
        os.environ["TAPETUM_CACHE"] = str(Path(work) / "cache")
        with importing, contextlib.redirect_stderr(open(os.devnull, "w")):  # noqa: PTH123
            target, inputs = prepared()
        tempfile.tempdir = work
        faulthandler.enable(faults)
        faulthandler.register(
            signal.SIGPROF, faults, chain=True
        )  # tells where it hung, then ends the process
        feeding = Feeding(target, place, Path(work), seconds)
        for data in inputs:  # what is read late is read now
            feeding.one(data)
        limit_memory()
        if atheris:
            guided(atheris, feeding, inputs, seed)
        else:
            by_chance(feeding.one, target, inputs, seed)


def main() -> None:
    name, seconds, seed, place = sys.argv[1:]
    sys.dont_write_bytecode = True
    begin(lambda: named(name), Path(place), float(seconds), int(seed))


if __name__ == "__main__":
    main()
