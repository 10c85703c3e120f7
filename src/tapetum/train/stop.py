"""Being asked to stop: Ctrl-C, a scheduler's SIGTERM or SIGUSR1. A step under way is finished first."""

import signal
import threading

import torch

from tapetum.base import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
REQUEUE = 75  # EX_TEMPFAIL: the job is to be started again with the same command


class Stop:
    """A context in which signals are noted rather than obeyed; a second Ctrl-C interrupts at once.

    While `training` is not set there is nothing to save yet, and a signal ends the process at once.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.training = False
        self.before: dict = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self.before = {s: signal.signal(s, self._note) for s in SIGNALS}
        return self

    def _note(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and (self.signal == number or not self.training):
            raise KeyboardInterrupt
        if not self.training:
            raise SystemExit(REQUEUE)
        self.signal = number

    def asked(self) -> int:
        """The signal that came on any process, or 0; all processes get the same answer."""
        if distributed.world() == 1:
            return self.signal
        return int(distributed.gather(torch.tensor([self.signal])).max())

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
