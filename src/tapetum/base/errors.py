"""Bad input becomes one clear sentence."""

import difflib
import re
from collections.abc import Iterable

from tapetum.base.harmless import outward

LONGEST = 900  # characters of a sentence


class TapetumError(Exception):
    """Something the user can mend: one sentence saying what was wrong, where, and what is allowed.

    The command line prints it without a traceback and exits with code 2. Names of files and what stands in
    them go into sentences, so each is made one line, in which nothing steers a terminal, of at most LONGEST
    characters, without the passwords of addresses.
    """

    def __init__(self, text: str = ""):
        super().__init__(shortened(printable(text), LONGEST))


class TrainingFailed(TapetumError):
    """Training itself failed (a loss that is not finite, say); the command line exits with code 1."""


def printable(text: str) -> str:
    """On one line, with what is not to be seen (control characters, turned writing) spelt out."""
    lines = (line.strip() for line in re.split(r"[\r\n]", str(text)))
    return outward(" ".join(filter(None, lines)))


def shortened(text: str, most: int) -> str:
    """Without its middle where it is longer."""
    return text if len(text) <= most else f"{text[: most * 2 // 3]} ... {text[-(most // 3) + 5 :]}"


def unknown(kind: str, name: object, allowed: Iterable[str]) -> TapetumError:
    """The sentence for a name that is not among `allowed`, with the nearest match where there is one.

    >>> print(unknown("method", "simcrl", ["byol", "simclr"]))
    unknown method 'simcrl'; did you mean 'simclr'? Allowed: byol, simclr.
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(str(name)[:200], names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    shown = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    return TapetumError(f"unknown {kind} {shortened(repr(name), 120)}{hint} Allowed: {shown or 'none'}.")
