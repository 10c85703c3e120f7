"""Bad input becomes one clear sentence."""

import difflib
from collections.abc import Iterable

from tapetum.base.addresses import shown


class TapetumError(Exception):
    """Something the user can mend: one sentence saying what was wrong, where, and what is allowed.

    The command line prints it without a traceback and exits with code 2. Passwords in addresses are left out.
    """

    def __init__(self, sentence: str = ""):
        super().__init__(shown(sentence))


class TrainingFailed(TapetumError):
    """Training itself failed (a loss that is not finite, say); the command line exits with code 1."""


def unknown(kind: str, name: object, allowed: Iterable[str]) -> TapetumError:
    """The sentence for a name that is not among `allowed`, with the nearest match where there is one.

    >>> print(unknown("method", "simcrl", ["byol", "simclr"]))
    unknown method 'simcrl'; did you mean 'simclr'? Allowed: byol, simclr.
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    shown = ", ".join(names[:40]) + (f" and {len(names) - 40} more" if len(names) > 40 else "")
    return TapetumError(f"unknown {kind} {name!r}{hint} Allowed: {shown or 'none'}.")
