"""Damage to a small whole file: bytes turned, cut, moved, repeated, and numbers that lie."""

import random
import re
import struct
from collections.abc import Callable, Sequence

MOST = 2**16  # bytes of an input
NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)
WORDS = (
    *(
        b"\0",
        b"\n",
        b"\r\n",
        b"\x1b[31m",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"../",
        b"/",
        b"C:\\",
        b".png",
        b"\xe2\x80\xae",
    ),
    *(b"NaN", b"Infinity", b"-1", b"1e999", b"null", b"true", b'""', b"[]", b"{}", b"9" * 30, b"9" * 5000),
    *(
        b"[" * 3000,
        b'{"a":' * 3000,
        b"(" * 300,
        b"&a [*a,*a]",
        b"<<: ",
        b"!!python/object/apply:os.system ['true']",
    ),
)
_NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?")
Change = Callable[[bytearray, random.Random], None]


def _place(data: bytearray, dice: random.Random) -> int:
    """Anywhere, but often near the ends, where headers and tables stand."""
    low, high = dice.choice([(0, len(data)), (0, min(len(data), 64)), (max(0, len(data) - 64), len(data))])
    return dice.randrange(low, high) if high > low else 0


def _flip(data: bytearray, dice: random.Random) -> None:
    if data:
        data[_place(data, dice)] ^= 1 << dice.randrange(8)


def _byte(data: bytearray, dice: random.Random) -> None:
    if data:
        data[_place(data, dice)] = dice.randrange(256)


def _cut(data: bytearray, dice: random.Random) -> None:
    del data[_place(data, dice) :]


def _remove(data: bytearray, dice: random.Random) -> None:
    at = _place(data, dice)
    del data[at : at + dice.choice((1, 2, 4, dice.randint(1, 64)))]


def _repeat(data: bytearray, dice: random.Random) -> None:
    at = _place(data, dice)
    part = data[at : at + dice.randint(1, 64)]
    data[at:at] = part * dice.choice((1, 2, 16, 200))


def _insert(data: bytearray, dice: random.Random) -> None:
    at = _place(data, dice)
    data[at:at] = dice.choice(WORDS) if dice.random() < 0.7 else dice.randbytes(dice.randint(1, 8))


def _overwrite(data: bytearray, dice: random.Random) -> None:
    word, at = dice.choice(WORDS), _place(data, dice)
    data[at : at + len(word)] = word


def _lie(data: bytearray, dice: random.Random) -> None:
    """A number in a binary header becomes another."""
    shape = dice.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    size, at = struct.calcsize(shape), _place(data, dice)
    if at + size <= len(data):
        (old,) = struct.unpack_from(shape, data, at)
        new = dice.choice((*NUMBERS, old + 1, old - 1, 2 * old)) % 256**size
        struct.pack_into(shape, data, at, new)


def _lie_in_text(data: bytearray, dice: random.Random) -> None:
    """A number that is written in digits becomes another, or a word."""
    if found := list(_NUMBER.finditer(data[: MOST // 4])):
        one = dice.choice(found)
        words = (b"-1", b"0", b"1e308", b"NaN", b"null", b'"x"', b"[]", b"{}", b"1e999", b"0.5")
        data[one.start() : one.end()] = dice.choice((*words, *(str(n).encode() for n in NUMBERS)))


CHANGES: tuple[Change, ...] = (
    *(_flip, _byte, _cut, _remove, _repeat, _insert, _overwrite, _lie, _lie, _lie_in_text, _lie_in_text),
)


def mutated(data: bytes, dice: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """A few changes, of which one may bring in a part of another input."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 3, 6))):
        if others and dice.random() < 0.1:
            other, at = dice.choice(others), _place(out, dice)
            start = dice.randrange(len(other)) if other else 0
            out[at : at + dice.randint(0, 64)] = other[start : start + dice.randint(1, 256)]
        else:
            dice.choice(CHANGES)(out, dice)
    return bytes(out[:MOST])


def minimised(data: bytes, still: Callable[[bytes], bool]) -> bytes:
    """A shorter input for which `still` holds: ever smaller parts are left out."""
    size = max(1, len(data) // 2)
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            if still(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data
