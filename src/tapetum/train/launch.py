"""Several processes on one machine, started by the run itself."""

import contextlib
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing

from tapetum.base import distributed
from tapetum.base.console import warn
from tapetum.base.errors import TapetumError, TrainingFailed
from tapetum.train.attempt import Shortage
from tapetum.train.stop import REQUEUE, SIGNALS

GONE = ("onnection closed", "onnection reset", "Broken pipe", "onnection refused", "NCCL error")


def count(devices: "str | int") -> int:
    """How many processes `devices` means: auto (one a GPU), cpu (one), a number; torchrun's own wins.

    Raises TapetumError for anything else, or for more GPUs than there are.
    """
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    gpus = torch.cuda.device_count()
    if devices in ("auto", None):
        return max(1, gpus)
    if devices == "cpu":
        return 1
    try:
        n = int(devices)
    except ValueError:
        n = 0
    if n < 1 or (gpus and n > gpus):
        raise TapetumError(
            f"devices is {devices!r}; allowed: auto, cpu, or a number from 1"
            + (f" to {gpus}." if gpus else ".")
        )
    return n


def device(devices: "str | int") -> torch.device:
    """This process's device."""
    if torch.cuda.is_available() and devices != "cpu":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def launched() -> bool:
    """Whether this process is already one of several (torchrun, or spawn below)."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _child(
    rank: int, world: int, port: int, threads: int, said: Any, body: Callable, arguments: dict
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(threads)
    os.setpgrp()  # Ctrl-C in a terminal reaches the parent alone, which hands it on once
    try:
        body(**arguments)
    except TapetumError as error:
        said.put(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        said.put(traceback.format_exc())  # torch tells only of the process whose end it sees first
        raise


class Left(TrainingFailed):
    """Another process of this run has ended, and knows why."""


def spawn(world: int, body: Callable, arguments: dict) -> None:
    """Run body(**arguments) in `world` processes; their exit code becomes this process's.

    Stop signals that come here are handed on to them. Raises the TapetumError that one of them raised first;
    what the others say of its end (Left) comes after it, whichever is heard first.
    """
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    threads = max(1, torch.get_num_threads() // world)
    said = multiprocessing.get_context("spawn").SimpleQueue()
    context: Any = multiprocessing.start_processes(
        _child, (world, port, threads, said, body, arguments), nprocs=world, join=False, start_method="spawn"
    )
    assert context

    asked: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        asked.append(number)
        for pid in context.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    main = threading.current_thread() is threading.main_thread()
    before = {s: signal.signal(s, hand_on) for s in SIGNALS} if main else {}
    try:
        while not context.join(grace_period=10):  # seconds for the others to leave by themselves
            pass
    except multiprocessing.ProcessExitedException as error:
        heard = []
        while not said.empty():
            heard.append(said.get())
        broke = [one for one in heard if isinstance(one, str)]
        causes = [one for one in heard if not isinstance(one, Left | str)]
        if asked and all(isinstance(one, Shortage) for one in causes):
            sys.exit(130 if signal.SIGINT in asked else REQUEUE)  # also one that had not begun dies of it
        if causes:
            raise causes[0] from None
        if broke:
            raise RuntimeError(f"one of {world} processes of this run failed:\n{broke[0]}") from None
        codes = {rank: process.exitcode or 0 for rank, process in enumerate(context.processes)}
        killed = [rank for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM]
        if killed:  # SIGTERM is what those get that have not left by themselves
            name = signal.Signals(-codes[killed[0]]).name
            raise TrainingFailed(
                f"process {killed[0]} of {world} was killed ({name}); where "
                "nobody did it, the machine's memory ran out. All up to the last checkpoint is kept."
            ) from None
        if heard:
            raise heard[0] from None
        sys.exit(error.exit_code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def spawned(world: int, body: Callable, arguments: dict) -> None:
    """`spawn`; all begin again with smaller portions where memory ran out on one of them."""
    while True:
        try:
            return spawn(world, body, arguments)
        except Shortage as short:
            warn(f"{short} That is done now.")
            given = {**arguments["given"], "micro_batch": short.micro}
            arguments = {**arguments, "given": given, "resume": True}


@contextlib.contextmanager
def group() -> Iterator[None]:
    """Join the processes of this run, if there are several, and leave them at the end.

    Raises Left where another of them has gone.
    """
    joined = distributed.start()
    try:
        yield
    except RuntimeError as error:
        if joined and any(text in str(error) for text in GONE):
            raise Left(
                "another process of this run has ended; all up to the last checkpoint is kept."
            ) from error
        raise
    finally:
        if joined:
            dist.destroy_process_group()
