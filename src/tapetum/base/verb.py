"""What makes a function a verb of tapetum: it is listed, and all that it is given is parsed and checked."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from tapetum.base import settings
from tapetum.base.errors import TapetumError

Verb = TypeVar("Verb", bound=Callable)
VERBS: dict[str, Callable] = {}


def verb(function: Verb) -> Verb:
    """The function with what it is given, typed or from Python, parsed and checked as its signature asks."""
    known = settings.allowed(function)
    positional = [name for name, p in known.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    repeated = next((name for name, p in known.items() if p.kind is p.VAR_POSITIONAL), None)

    @functools.wraps(function)
    def checked(*args: Any, **given: Any) -> Any:
        if len(args) > len(positional):
            if not repeated:
                raise TypeError(f"{function.__name__} takes at most {len(positional)} positional arguments")
            given = {repeated: args[len(positional) :]} | given
        parsed = settings.check(
            f"setting of {function.__name__}", dict(zip(positional, args)) | given, function
        )
        for name, p in known.items():
            if name != repeated and p.default is p.empty and parsed.get(name) is None:
                meaning = settings.documented(function)[1][name]
                raise TapetumError(f"{function.__name__} needs {name.replace('_', '-')}: {meaning}")
        more = parsed.pop(repeated, ()) if repeated else ()
        first = [parsed.pop(name, known[name].default) for name in positional] if more else []
        return function(*first, *more, **parsed)

    VERBS[function.__name__] = checked
    return cast(Verb, checked)
