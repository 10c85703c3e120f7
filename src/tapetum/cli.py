"""The command line: flags, help and checks derived from the signatures and docstrings of the verbs."""

import argparse
import contextlib
import inspect
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from tapetum import __version__
from tapetum.base import console, settings
from tapetum.base.errors import TapetumError, TrainingFailed, unknown
from tapetum.verbs import VERBS

GROUPS = ("method", "encoder", "optimizer", "views", "finetune")
LENGTHS = {"epochs", "steps", "budget"}  # one of them by flag replaces another from a file
EXAMPLES = """\
examples:
  tapetum pretrain photos/ --out runs/first          all defaults, chosen from the images and the machine
  tapetum evaluate runs/first --train-data photos/   nearest neighbours and linear probe, beside baselines
  tapetum export runs/first --format onnx --out encoder.onnx
"""


# ---- help, from signatures and docstrings ----


class Parser(argparse.ArgumentParser):
    """argparse, but what is wrong becomes a TapetumError."""

    def error(self, message: str) -> NoReturn:
        lacking = r"^argument (\S+): expected one argument$"
        message = re.sub(lacking, r"\1 needs a value; one that begins with - is written \1=-VALUE", message)
        message = re.sub(
            r"^argument (\S+)/(\S+): ignored explicit.*", r"write \1 or \2, without a value", message
        )
        raise TapetumError(f"{message}; see `{self.prog} --help`.")


def overview() -> str:
    """What `tapetum --help` prints."""
    lines = [f"  {name.replace('_', '-'):<10} {settings.documented(verb)[0]}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: tapetum VERB ... [--help] [--version]\n",
            "From a folder of images to an encoder that you can trust.\n",
            "verbs, each with a --help of its own:",
            *lines,
            "",
            EXAMPLES,
        ]
    )


def parser(name: str) -> Parser:
    """The flags of one verb."""
    verb = VERBS[name]
    first, helps, rest = settings.documented(verb)
    own, hints = parameters(verb), settings.annotations(verb)
    words = [n.upper() if p.default is p.empty else f"[{n.upper()}]" for n, p in own.items() if positional(p)]
    words += ["..." for p in own.values() if p.kind is p.VAR_POSITIONAL]
    one = Parser(
        prog=f"tapetum {name.replace('_', '-')}",
        usage=" ".join([f"tapetum {name.replace('_', '-')}", *words, "[--FLAG VALUE ...]"]),
        description=first,
        epilog=rest,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,  # what was not typed is not there
    )
    for p in own.values():
        text = (helps.get(p.name, "") + shown(p.default)).replace("%", "%%")
        if positional(p):
            nargs = "*" if p.kind is p.VAR_POSITIONAL else "?"
            one.add_argument(p.name, nargs=nargs, metavar=p.name.upper(), help=text)
        elif isinstance(p.default, bool):
            one.add_argument(flag(p.name), dest=p.name, action=argparse.BooleanOptionalAction, help=text)
        else:
            how = "append" if hints[p.name] == list[str] else "store"  # typed once, or several times
            one.add_argument(flag(p.name), dest=p.name, action=how, metavar=metavar(hints[p.name]), help=text)
    if len(own) > 1:
        one.add_argument("--config", metavar="FILE", help="a YAML file of these settings; flags win over it")
    one.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return one


def positional(p: inspect.Parameter) -> bool:
    return p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def shown(default: Any) -> str:
    """A default in words; where the signature has none, the docstring says what is chosen."""
    if default is inspect.Parameter.empty or isinstance(default, bool | None) or default == ():
        return ""
    return f" [{','.join(map(str, default)) if isinstance(default, tuple) else default}]"


def metavar(wanted: Any) -> str:
    """What a flag's value looks like: N, fp32|bf16, A,B or TEXT."""
    if get_origin(wanted) is Literal:
        return "|".join(get_args(wanted))
    if get_origin(wanted) in (tuple, list):
        return "A,B"
    if wanted in (int, float):
        return "N"
    parts = [metavar(part) for part in get_args(wanted) if isinstance(part, type) or get_origin(part)]
    return "|".join(part for part in dict.fromkeys(parts) if part != "TEXT") or "TEXT"


def parameters(verb: Callable) -> dict[str, inspect.Parameter]:
    """A verb's own settings, without the groups."""
    return {n: p for n, p in inspect.signature(verb).parameters.items() if not n.endswith("_settings")}


def groups_of(verb: Callable) -> list[str]:
    """The names of groups of settings that a verb takes, --GROUP.setting."""
    given = inspect.signature(verb).parameters
    found = [name for name in GROUPS if f"{name}_settings" in given]
    if "protocol_settings" in given:
        from tapetum.evaluate import protocols

        found += protocols.names()
    return found


def gathered(verb: Callable, groups: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Groups of settings as the verb's keywords: those of protocols in one, all others each in its own."""
    known, filled = inspect.signature(verb).parameters, {n: v for n, v in groups.items() if v}
    own = {f"{name}_settings": v for name, v in filled.items() if f"{name}_settings" in known}
    rest = {name: v for name, v in filled.items() if f"{name}_settings" not in known}
    return own | ({"protocol_settings": rest} if rest else {})


def flags(verb: Callable, setting: str = "*") -> list[str]:
    """All flags of a verb, those of groups as `--method.*`."""
    own = [n for n, p in parameters(verb).items() if not positional(p)]
    common = ["config", "json", "help"][len(parameters(verb)) < 2 :]  # one setting needs no file
    return [*map(flag, [*own, *common]), *(f"--{g}.{setting}" for g in groups_of(verb))]


# ---- from what was typed to what a verb gets ----


def read(arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """The verb's name and its keywords, still as text. Raises TapetumError on anything unknown."""
    first, *arguments = arguments
    if (name := first.replace("-", "_")) not in VERBS:
        raise unknown("verb", first, [v.replace("_", "-") for v in VERBS])
    verb = VERBS[name]
    groups, arguments = grouped(arguments, verb)
    typed, extra = parser(name).parse_known_intermixed_args(arguments)
    for token in sorted(extra, key=lambda text: not text.startswith("-")):
        if token.startswith("-"):
            raise unknown("flag", token.partition("=")[0], flags(verb))
        raise TapetumError(f"`tapetum {first}` does not know what to do with {token!r}.")
    given = {n: v for n, v in vars(typed).items() if n not in ("config", "json")}
    if "config" in typed:
        file_given, file_groups = from_file(typed.config, verb)
        if LENGTHS & given.keys():
            file_given = {n: v for n, v in file_given.items() if n not in LENGTHS}
        given = {**file_given, **given}
        groups = {g: {**file_groups.get(g, {}), **groups.get(g, {})} for g in groups_of(verb)}
    return name, given | gathered(verb, groups)


def grouped(arguments: list[str], verb: Callable) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The flags `--group.setting value`, and everything else."""
    groups: dict[str, dict[str, str]] = {}
    others = []
    rest = iter(arguments)
    for token in rest:
        name, equals, value = token.partition("=")
        group, dot, setting = name.removeprefix("--").partition(".")
        if not (name.startswith("--") and dot):
            others.append(name.replace("_", "-") + equals + value if name.startswith("--") else token)
            continue
        if group not in groups_of(verb):
            raise unknown("flag", name, flags(verb, setting))
        if not equals and (value := next(rest, "--")).startswith("--"):
            raise TapetumError(f"{name} needs a value.")
        groups.setdefault(group, {})[setting.replace("-", "_")] = value
    return groups, others


def from_file(file: str, verb: Callable) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Settings from a YAML file, as `config.split` gives them; a key that the verb lacks is refused."""
    from tapetum.train import config

    own, groups = config.split(config.read(Path(file)))
    known = {*parameters(verb), *groups_of(verb)}
    wrong = [key for key in own if key not in parameters(verb)]
    wrong += [group for group, given in groups.items() if given and group not in known]
    if wrong:
        raise unknown(f"setting in {file}, {config.line_of(Path(file), wrong[0])}:", wrong[0], known)
    if str(own.get("method", "")).endswith(".py"):
        raise TapetumError(
            f"{file} names the method file {own['method']}; code is only ever typed, as --method."
        )
    return own, groups


# ---- running it ----


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns its exit code: 0, 1 (training failed), 2 (bad input), 130 (interrupted), 141 (nobody reads on).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    console.json_mode = "--json" in arguments
    try:
        if arguments[:1] == ["--version"]:
            print(f"tapetum {__version__}")
        elif not arguments or arguments[0] in ("--help", "-h", "help"):
            print(overview())
        else:
            with answering() as answer:
                verb, keywords = read(arguments)
                answer.append(VERBS[verb](**keywords))
            if console.json_mode:
                print(json.dumps(plain(answer[0])))
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes at the end
        return 141
    except SystemExit as stop:  # --help, or asked to stop: both have said so themselves
        if console.json_mode and stop.code:
            failed("stopped before the end.", 2)
        return int(stop.code or 0)
    except (KeyboardInterrupt, Exception) as error:
        if (known := sentence(error)) is None:
            traceback.print_exc()
            known = f"{type(error).__name__}: {error}", 1
        return failed(*known)
    finally:
        console.json_mode = False


def sentence(error: BaseException) -> tuple[str, int] | None:
    """What to say of an error, and the exit code; None for what only a bug can cause."""
    if isinstance(error, TapetumError):
        return str(error), 1 if isinstance(error, TrainingFailed) else 2
    if isinstance(error, KeyboardInterrupt):
        return "interrupted.", 130
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "allocate memory" in str(error):
        return "there is not enough memory; a smaller --batch-size or --micro-batch auto needs less.", 2
    if isinstance(error, OSError) and error.errno:
        return f"{error.filename or 'the system'}: {error.strerror}.", 2
    return None


def failed(text: str, code: int) -> int:
    """Say what went wrong where the caller reads it."""
    if console.json_mode:
        print(json.dumps({"error": text}), flush=True)
    else:
        console.fail(text)
    return code


@contextlib.contextmanager
def answering() -> Iterator[list]:
    """A list for the answer. With --json nothing else reaches stdout, also not from other processes."""
    if not console.json_mode:
        yield []
        return
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield []
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def plain(value: Any) -> Any:
    """A result as JSON has it; what is not a number becomes null."""
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a number of numpy's or torch's
        value = value.item()
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return value if isinstance(value, str | int | None) else str(value)
