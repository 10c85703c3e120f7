"""Settings as people type them: text becomes the type that a signature asks for; nothing unknown passes."""

import difflib
import inspect
import math
import os
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from tapetum.base.errors import TapetumError, unknown

YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
NOTHING = ("none", "null")
# Annotated[T, least] or Annotated[T, least, most] keeps a number, and both ends of a schedule, within limits.
Count = Annotated[int, 1]
Whole = Annotated[int, 0]
Share = Annotated[float, 0, 1]
Amount = Annotated[float, 0]
Positive = Annotated[float, 1e-6]  # what divides: temperatures, alphas


def allowed(owner: Callable) -> dict[str, inspect.Parameter]:
    """The settings of a function or class by name: its keywords, and a function's `*names`, without what a
    method or a protocol works on (its encoder, its case)."""
    found = inspect.signature(owner).parameters.values()
    kinds: list[Any] = [inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY]
    kinds += [] if inspect.isclass(owner) else [inspect.Parameter.VAR_POSITIONAL]
    named = [p for p in found if p.kind in kinds]
    given = "encoder" if inspect.isclass(owner) else "case"
    return {p.name: p for p in named if p.name != given}


def take_groups(own: dict[str, Any], *names: str) -> dict[str, dict[str, Any]]:
    """Takes the settings of each group (`method_settings` ...) out of a verb's own, by the group's name."""
    return {name: dict(own.pop(f"{name}_settings") or {}) for name in names}


def check(kind: str, given: Mapping[str, Any], owner: Callable, prefix: str = "") -> dict[str, Any]:
    """`given`, parsed as the owner's signature asks; what has no annotation follows the type of its default.

    `kind` and `prefix` are for the sentences: "unknown setting of DINO 'dmi'", "method.dim is 'x'".
    Raises TapetumError for a name it does not have (with the nearest match) or a value of the wrong type.
    """
    known, hints = allowed(owner), annotations(owner)
    out = {}
    for name, value in given.items():
        if name not in known:
            raise unknown(kind, name, known)
        default = known[name].default
        untyped = default is None or default is inspect.Parameter.empty
        wanted = hints.get(name, inspect.Parameter.empty if untyped else type(default))
        if known[name].kind is inspect.Parameter.VAR_POSITIONAL:
            wanted = tuple[wanted, ...]  # type: ignore[valid-type]
        out[name] = parse(f"{prefix}{name}", value, wanted)
    return out


def annotations(owner: Callable) -> dict[str, Any]:
    """The types that a function or a class's constructor asks for."""
    try:
        return typing.get_type_hints(owner.__init__ if inspect.isclass(owner) else owner, include_extras=True)
    except NameError as error:
        raise TapetumError(
            f"{owner.__name__}'s signature asks for a type that is not there: {error}."
        ) from None


def documented(owner: Callable) -> tuple[str, dict[str, str], str]:
    """A docstring in parts: its first line, what it says of each argument below `Args:`, and what follows."""
    before, _, rest = (inspect.getdoc(owner) or "").partition("Args:\n")
    block, _, after = rest.partition("\n\n")
    found = re.findall(r"^( *)(\w+(?:, \w+)*): (.*(?:\n\1 +.*)*)", block, re.MULTILINE)
    meanings = {name: " ".join(text.split()) for _, names, text in found for name in names.split(", ")}
    return before.strip().partition("\n")[0], meanings, after.strip()


def parse(what: str, value: Any, wanted: Any) -> Any:
    """A value, or its text, as the type `wanted`. Raises TapetumError naming `what` and what is allowed."""
    try:
        return _parsed(value, wanted)
    except TapetumError as error:
        raise TapetumError(f"{what}: {error}") from None
    except (ValueError, TypeError, OverflowError):
        near = difflib.get_close_matches(str(value), _words(wanted), n=1)
        hint = f"did you mean {near[0]}? It" if near else "it"
        raise TapetumError(f"{what} is {value!r}; {hint} must be {described(wanted)}.") from None


def _parsed(value: Any, wanted: Any) -> Any:
    origin, args = get_origin(wanted), get_args(wanted)
    if wanted is Any:
        return value
    if wanted is inspect.Parameter.empty:
        return guess(value)
    if origin is Annotated:
        return _within(_parsed(value, args[0]), *args[1:])
    if origin in (Union, types.UnionType):
        return _first_that_fits(value, args)
    if origin is Literal:
        return _one_of(value, args)
    if origin in (tuple, list):
        return _sequence(value, origin, args)
    if wanted is bool:
        return _flag(value)
    if wanted in (int, float):
        return _number(value, wanted)
    if wanted is str:
        return _text(value)
    if hasattr(wanted, "by_name"):  # loaded by whoever uses it
        return value if isinstance(value, wanted) else _text(value)
    if (parser := getattr(wanted, "parse", None)) is not None:
        if isinstance(value, bool) or not isinstance(value, str | int | float | wanted):
            raise TypeError
        return parser(value)
    if isinstance(kind := origin or wanted, type) and not isinstance(value, kind):
        raise TypeError
    return value


def _first_that_fits(value: Any, choices: tuple) -> Any:
    if types.NoneType in choices and (value is None or (_is_nothing(value) and str not in choices)):
        return None
    problem: Exception = TypeError()
    for choice in choices:
        if choice is not types.NoneType:
            try:
                return _parsed(value, choice)
            except (ValueError, TypeError, OverflowError, TapetumError) as error:
                problem = error
    raise problem


def _is_nothing(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in NOTHING


def _one_of(value: Any, choices: tuple) -> Any:
    for choice in choices:
        if str(value) == str(choice):
            return choice
    raise ValueError


def _within(value: Any, least: float, most: float = math.inf) -> Any:
    if not all(least <= number <= most for number in getattr(value, "ends", (value,))):  # of a schedule
        raise ValueError
    return value


def _sequence(value: Any, kind: Any, args: tuple) -> Any:
    if isinstance(value, str):
        value = [part.strip() for part in value.strip("[]() ").split(",") if part.strip()]
    elif not isinstance(value, list | tuple):
        value = [value]
    if kind is tuple and args and args[-1] is not Ellipsis:
        if len(value) != len(args):
            raise ValueError
        return tuple(map(_parsed, value, args))
    return kind(_parsed(part, args[0] if args else Any) for part in value)


def _flag(value: Any) -> bool:
    if str(value).lower() in YES + NO:
        return str(value).lower() in YES
    raise ValueError


def _number(value: Any, kind: type) -> Any:
    if isinstance(value, bool) or value is None:
        raise TypeError
    if kind is int and str(value).strip().lstrip("+-").isdecimal():
        return int(value)  # exact, however long
    number = float(value)
    if math.isnan(number) or (kind is int and number != int(number)):
        raise ValueError
    return kind(number)


def _text(value: Any) -> str:
    if not isinstance(value, str | os.PathLike | int | float) or isinstance(value, bool):
        raise TypeError
    return str(value)


def guess(value: Any) -> Any:
    """Text as the number, flag or list that it looks like; lists as tuples; anything else as it is."""
    if isinstance(value, list | tuple):
        return tuple(map(guess, value))
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if _is_nothing(value):
        return None
    if "," in value:
        return tuple(guess(part.strip()) for part in value.strip("[]() ").split(",") if part.strip())
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _words(wanted: Any) -> list[str]:
    """The words that a type allows."""
    if get_origin(wanted) is Literal:
        return list(map(str, get_args(wanted)))
    if wanted is bool:
        return ["true", "false", "yes", "no"]
    return [word for part in get_args(wanted) for word in _words(part)]


def described(wanted: Any) -> str:
    """A type in words."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "settings"}
    origin, args = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        limits = f"of at least {args[1]}" if len(args) == 2 else f"from {args[1]} to {args[2]}"
        return f"{described(args[0])} {limits}"
    if origin in (Union, types.UnionType):
        return " or ".join(described(a) for a in args if a is not types.NoneType)
    if origin is Literal:
        return " or ".join(filter(None, [", ".join(map(str, args[:-1])), str(args[-1])]))
    if origin is tuple and args[-1:] != (Ellipsis,):
        return f"{len(args)} values separated by a comma, each {described(args[0])}"
    if origin in (tuple, list):
        return f"values separated by commas, each {described(args[0])}"
    if hasattr(wanted, "by_name"):
        return str(wanted.by_name)
    if hasattr(wanted, "parse"):
        return "a number, or a schedule such as 0.996->1"
    return words.get(origin or wanted, getattr(wanted, "__name__", str(wanted)))
