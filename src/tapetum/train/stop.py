"""Being asked to stop: Ctrl-C, a scheduler's SIGTERM or SIGUSR1. The step under way is finished first."""

import signal
import threading

import torch

from tapetum.base import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
REQUEUE = 75  # EX_TEMPFAIL: the job is to be started again with the same command


class Stop:
    """A context in which signals are noted rather than obeyed; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.signal = 0
        self.before: dict = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self.before = {s: signal.signal(s, self._note) for s in SIGNALS}
        return self

    def _note(self, number: int, frame: object) -> None:
        if self.signal == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.signal = number

    def asked(self) -> int:
        """The signal that came on any process, or 0; all processes get the same answer."""
        if distributed.world() == 1:
            return self.signal
        return int(distributed.gather(torch.tensor([self.signal])).max())

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
