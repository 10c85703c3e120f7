"""Settings as people type them: text becomes the type that a signature asks for; nothing unknown passes."""

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin

from tapetum.base.errors import TapetumError, unknown

YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def allowed(owner: Callable) -> dict[str, inspect.Parameter]:
    """The settings of a function or class: its keywords, without what comes before them."""
    parameters = inspect.signature(owner).parameters.values()
    only = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return {p.name: p for p in only or parameters if p.name not in ("self", "encoder")}


def check(kind: str, given: dict[str, Any], owner: Callable) -> dict[str, Any]:
    """`given`, parsed as the owner's signature asks.

    Raises TapetumError for a name it does not have (with the nearest match) or a value of the wrong type.
    """
    known = allowed(owner)
    hints = typing.get_type_hints(owner.__init__ if inspect.isclass(owner) else owner)
    out = {}
    for name, value in given.items():
        if name not in known:
            raise unknown(kind, name, known)
        out[name] = parse(f"{kind} {name}", value, hints.get(name, Any))
    return out


def parse(what: str, value: Any, wanted: Any) -> Any:
    """A value, or its text, as the type `wanted`. Raises TapetumError naming `what` and the type."""
    try:
        return _parsed(value, wanted)
    except TapetumError as error:
        raise TapetumError(f"{what}: {error}") from None
    except (ValueError, TypeError):
        raise TapetumError(f"{what} is {value!r}; it must be {described(wanted)}.") from None


def _parsed(value: Any, wanted: Any) -> Any:
    origin, args = get_origin(wanted), get_args(wanted)
    if wanted is Any or wanted is inspect.Parameter.empty:
        return guess(value)
    if origin in (Union, types.UnionType):
        return _first_that_fits(value, args)
    if origin is Literal:
        if value not in args:
            raise unknown("value", value, map(str, args))
        return value
    if origin in (tuple, list):
        return _sequence(value, origin, args)
    if wanted is bool:
        return _flag(value)
    if wanted in (int, float):
        return _number(value, wanted)
    if wanted is str:
        return str(value)
    if (parser := getattr(wanted, "parse", None)) is not None:
        return parser(value)
    if isinstance(wanted, type) and not isinstance(value, wanted):
        raise TypeError
    return value


def _first_that_fits(value: Any, choices: tuple) -> Any:
    if types.NoneType in choices and value in (None, "none", "None", "null"):
        return None
    problem: Exception = TypeError()
    for choice in choices:
        if choice is not types.NoneType:
            try:
                return _parsed(value, choice)
            except (ValueError, TypeError, TapetumError) as error:
                problem = error
    raise problem


def _sequence(value: Any, kind: Any, args: tuple) -> Any:
    parts = value.replace("[", "").replace("]", "").split(",") if isinstance(value, str) else list(value)
    if kind is tuple and args and args[-1] is not Ellipsis and len(parts) != len(args):
        raise ValueError
    types_ = args if kind is tuple and args and args[-1] is not Ellipsis else len(parts) * args[:1]
    return kind(_parsed(p.strip() if isinstance(p, str) else p, t) for p, t in zip(parts, types_ or len(parts) * (Any,)))


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in YES + NO:
        return str(value).lower() in YES
    raise ValueError


def _number(value: Any, kind: type) -> Any:
    if isinstance(value, bool) or value is None:
        raise TypeError
    number = float(value)
    if number != number or (kind is int and number != int(number)):
        raise ValueError
    return kind(number) if kind is int else number


def guess(value: Any) -> Any:
    """Text as the number, flag or list that it looks like; anything else as it is."""
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if value.lower() in ("none", "null"):
        return None
    if "," in value:
        return tuple(guess(part.strip()) for part in value.strip("[]()").split(","))
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def described(wanted: Any) -> str:
    """A type in words."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    origin, args = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(described(a) for a in args if a is not types.NoneType)
    if origin is tuple and args[-1:] != (Ellipsis,):
        return f"{len(args)} values separated by a comma, each {described(args[0])}"
    if origin in (tuple, list):
        return f"values separated by commas, each {described(args[0])}"
    return words.get(wanted, getattr(wanted, "__name__", str(wanted)))
