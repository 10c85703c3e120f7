"""Values that change while training: plain data, called with the progress t in [0, 1]."""

import math
import re
from dataclasses import dataclass
from typing import Annotated

from tapetum.base.errors import TapetumError

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TEXT = re.compile(rf"({_NUMBER})(?:\s*->\s*({_NUMBER}))?(?:\s+until\s+({_NUMBER}))?(?:\s+(\w+))?")


@dataclass(frozen=True)
class Ramp:
    """From `start` to `end` as t goes from 0 to `until`, then stays at `end`.

    Args:
        start: the value at t = 0.
        end: the value from t = `until` on.
        until: share of the training after which `end` is reached, in (0, 1].
        shape: "cosine" (slow at both ends) or "linear".

    Written as text: `0.996->1`, `0.04->0.07 until 0.1 linear`, or one number.
    """

    start: float
    end: float
    until: float = 1.0
    shape: str = "cosine"

    def __post_init__(self):
        if not 0 < self.until <= 1:
            raise TapetumError(f"a schedule's `until` is {self.until}; it must be above 0 and at most 1.")
        if self.shape not in ("cosine", "linear"):
            raise TapetumError(f"a schedule's shape is {self.shape!r}; allowed: cosine, linear.")

    def __call__(self, t: float) -> float:
        u = min(t / self.until, 1.0)
        if self.shape == "cosine":
            u = (1 - math.cos(math.pi * u)) / 2
        return self.start + (self.end - self.start) * u

    @property
    def ends(self) -> tuple[float, float]:
        """The values between which the schedule stays."""
        return self.start, self.end

    def __str__(self) -> str:
        if self.start == self.end:
            return repr(self.start)
        until = f" until {self.until!r}" if self.until != 1 else ""
        shape = f" {self.shape}" if self.shape != "cosine" else ""
        return f"{self.start!r}->{self.end!r}{until}{shape}"

    @staticmethod
    def parse(text: "str | float | Ramp") -> "Ramp":
        """`0.996->1`, `0.04->0.07 until 0.1 linear`, or a number. Raises TapetumError on anything else."""
        return parse(text)


ShareRamp = Annotated[Ramp, 0, 1]  # a schedule that stays between 0 and 1
PositiveRamp = Annotated[Ramp, 1e-6]


def constant(value: float) -> Ramp:
    """A schedule that stays at `value`."""
    return Ramp(value, value)


def parse(text: "str | float | Ramp") -> Ramp:
    """The schedule that a text or number stands for; see Ramp.parse."""
    if isinstance(text, Ramp):
        return text
    if isinstance(text, int | float):
        return constant(float(text))
    found = _TEXT.fullmatch(text.strip())
    if not found:
        raise TapetumError(
            f"{text!r} is not a schedule; write a number, or `0.996->1`, or `0.04->0.07 until 0.1 linear`."
        )
    start, end, until, shape = found.groups()
    return Ramp(float(start), float(end or start), float(until or 1), shape or "cosine")
