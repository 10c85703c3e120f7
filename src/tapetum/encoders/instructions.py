"""Follows the instructions of a pickle with stand-ins for all that it would import or call: nothing runs."""

import io
import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # names of Python 2, as older pickles have them
from dataclasses import dataclass, field
from typing import Any

from tapetum.base.errors import TapetumError

MOST = 2_000_000  # instructions


@dataclass
class Named:
    """What a pickle would import."""

    name: str


@dataclass
class Called:
    """What a pickle would call, with what, and what it would put into the answer."""

    what: Any
    given: Any
    entries: dict[str, Any] = field(default_factory=dict)


@dataclass
class Stored:
    """Numbers that lie beside a pickle."""

    about: Any


class _Mark:
    pass


def entries(value: Any) -> dict[str, Any]:
    """Those of a dict, or of what stands for one."""
    return value if isinstance(value, dict) else value.entries if isinstance(value, Called) else {}


def followed(content: io.BytesIO, named: dict[str, None]) -> Any:
    """What a pickle describes, with stand-ins; adds what it would import."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def popped() -> list[Any]:
        """What stands above the last mark."""
        at = next(i for i in range(len(stack) - 1, -1, -1) if isinstance(stack[i], _Mark))
        items = stack[at + 1 :]
        del stack[at:]
        return items

    def name(module: Any, word: Any) -> Named:
        known = isinstance(module, str) and isinstance(word, str)
        text = f"{module}.{word}" if known else "something that it computes"
        named.setdefault(text)
        return Named(text)

    try:
        for number, (op, given, _) in enumerate(pickletools.genops(content)):
            if number > MOST:
                raise TapetumError(f"it has over {MOST:,} instructions.")
            _STEPS.get(op.name, _constant)(op, given, stack, memo, popped, name)
    except StopIteration:
        raise TapetumError("its instructions do not fit together.") from None
    return stack[-1] if stack else None


# ---- the instructions ----


def _constant(op, given, stack, memo, popped, name) -> None:
    if op.stack_before == [] and len(op.stack_after) == 1:
        stack.append(given)
    else:
        raise TapetumError(f"it holds the instruction {op.name}, which is not followed here.")


def _put(op, given, stack, memo, popped, name) -> None:
    memo[len(memo) if given is None else int(given)] = stack[-1]


def _tuple(op, given, stack, memo, popped, name) -> None:
    count = op.name.removeprefix("TUPLE")
    items = popped() if not count else [stack.pop() for _ in range(int(count))][::-1]
    stack.append(tuple(items))


def _items(op, given, stack, memo, popped, name) -> None:
    """Entries of a dict, below a mark or two on the stack."""
    pairs = popped() if op.name in ("SETITEMS", "DICT") else [stack.pop(), stack.pop()][::-1]
    if op.name == "DICT":
        stack.append({})
    into = entries(stack[-1])
    for key, value in zip(pairs[::2], pairs[1::2]):
        into[key if isinstance(key, str) else f"({type(key).__name__})"] = value


def _append(op, given, stack, memo, popped, name) -> None:
    items = popped() if op.name in ("APPENDS", "ADDITEMS", "LIST") else [stack.pop()]
    if op.name == "LIST":
        stack.append(items)
    elif isinstance(stack[-1], list):
        stack[-1].extend(items)


def _named(op, given, stack, memo, popped, name) -> None:
    if op.name == "STACK_GLOBAL":
        word, module = stack.pop(), stack.pop()
        stack.append(name(module, word))
    elif op.name.startswith("EXT"):
        stack.append(name(None, None))
    else:
        module, word = given.split(" ", 1)
        module, word = NAME_MAPPING.get((module, word), (IMPORT_MAPPING.get(module, module), word))
        found = name(module, word)
        stack.append(Called(found, popped()) if op.name == "INST" else found)


def _call(op, given, stack, memo, popped, name) -> None:
    if op.name == "OBJ":
        what, *arguments = popped()
    else:
        _ = stack.pop() if op.name == "NEWOBJ_EX" else None
        arguments, what = stack.pop(), stack.pop()
    stack.append(Called(what, arguments))


def _pushes(value: Any):
    def step(op, given, stack, memo, popped, name) -> None:
        stack.append(value())

    return step


def _drops(op, given, stack, memo, popped, name) -> None:
    stack.pop()


def _nothing(op, given, stack, memo, popped, name) -> None:
    """What changes nothing here."""


_STEPS = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP", "READONLY_BUFFER"), _nothing),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _put),
    **dict.fromkeys(("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"), _tuple),
    **dict.fromkeys(("SETITEM", "SETITEMS", "DICT"), _items),
    **dict.fromkeys(("APPEND", "APPENDS", "ADDITEMS", "LIST"), _append),
    **dict.fromkeys(("GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"), _named),
    **dict.fromkeys(("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ"), _call),
    **dict.fromkeys(("POP", "BUILD"), _drops),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET", "NEXT_BUFFER"), _pushes(list)),
    "EMPTY_DICT": _pushes(dict),
    "EMPTY_TUPLE": _pushes(tuple),
    "NONE": _pushes(lambda: None),
    "NEWTRUE": _pushes(lambda: True),
    "NEWFALSE": _pushes(lambda: False),
    "MARK": _pushes(_Mark),
    "FROZENSET": lambda op, given, stack, memo, popped, name: stack.append(popped()),
    "POP_MARK": lambda op, given, stack, memo, popped, name: popped(),
    "DUP": lambda op, given, stack, memo, popped, name: stack.append(stack[-1]),
    "PERSID": lambda op, given, stack, memo, popped, name: stack.append(Stored(given)),
    "BINPERSID": lambda op, given, stack, memo, popped, name: stack.append(Stored(stack.pop())),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"),
        lambda op, given, stack, memo, popped, name: stack.append(memo.get(int(given))),
    ),
}
