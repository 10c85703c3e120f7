"""Strangers' names as a terminal and a sentence can bear them: what would act on the screen is spelt out."""

import re

from tapetum.base.addresses import shown

_ACTS = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"  # commands to a terminal, ends of line, turns
_UNSEEN = r"\u061c\u200e\u200f\ufeff\ud800-\udfff"  # marks without width, and halves that no encoding has
ACTS = re.compile(f"[{_ACTS}]")
_SPELT = re.compile(f"[{_ACTS}{_UNSEEN}]")


def harmless(text: str, keep: str = "") -> str:
    """The text with control characters, turns of direction and half characters spelt out, as \\x1b is.

    >>> harmless("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return _SPELT.sub(lambda found: found[0] if found[0] in keep else _spelt(found[0]), text)


def outward(text: str, keep: str = "") -> str:
    """The text as it may be shown: harmless, and without the passwords of addresses."""
    return harmless(shown(text), keep)


def _spelt(character: str) -> str:
    return character.encode("unicode_escape").decode()
