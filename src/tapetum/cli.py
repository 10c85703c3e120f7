"""The command line: flags, help and checks derived from the signatures and docstrings of the verbs."""

import argparse
import inspect
import json
import re
import sys
import typing
from collections.abc import Callable
from typing import Any

from tapetum import __version__, verbs
from tapetum.base import console, settings
from tapetum.base.errors import TapetumError, TrainingFailed, unknown

VERBS = ("pretrain", "evaluate", "embed", "export", "inspect", "methods", "new", "check", "demo")
GROUPS = ("method", "encoder", "optimizer", "views")
EXAMPLES = """
examples:
  tapetum pretrain photos/ --out runs/first          all defaults, chosen from the images and the machine
  tapetum evaluate runs/first --train-data photos/   nearest neighbours and linear probe, beside baselines
  tapetum export runs/first --format onnx --out encoder.onnx
"""


class Parser(argparse.ArgumentParser):
    """argparse, but what is wrong becomes one sentence with the nearest match."""

    def error(self, message: str) -> typing.NoReturn:
        wrong = re.match(r"argument (?:verb|VERB): invalid choice: '([^']*)'", message)
        if wrong:
            raise unknown("verb", wrong[1], VERBS)
        raise TapetumError(f"{message}; see `{self.prog} --help`.")


def documented(verb: Callable) -> tuple[str, dict[str, str], str]:
    """A verb's docstring: its first line, what each argument is, and the rest."""
    doc = inspect.getdoc(verb) or ""
    first, _, rest = doc.partition("\n\n")
    block = re.search(r"Args:\n((?:[ ]{4}.*\n?|\n)*)", rest)
    arguments = dict(re.findall(r"^ {4}(\w+): (.*)$", block[1], re.MULTILINE)) if block else {}
    return first, arguments, rest[block.end() :].strip() if block else rest


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="tapetum",
        description="From a folder of images to an encoder that you can trust.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"tapetum {__version__}")
    sub = top.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    for name in VERBS:
        verb = getattr(verbs, name)
        first, helps, rest = documented(verb)
        one = sub.add_parser(name, help=first, description=first, epilog=rest, allow_abbrev=False)
        for p in parameters(verb).values():
            if p.kind is p.KEYWORD_ONLY or (name == "demo"):
                add_flag(one, p, helps.get(p.name, ""))
            else:
                optional = p.default is not p.empty
                one.add_argument(p.name, nargs="?" if optional else None, metavar=p.name.upper(), help=helps.get(p.name))
        one.add_argument("--config", metavar="FILE", help="a YAML file of these settings; flags win over it")
        one.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return top


def parameters(verb: Callable) -> dict[str, inspect.Parameter]:
    """A verb's own settings, without the groups."""
    return {n: p for n, p in inspect.signature(verb).parameters.items() if not n.endswith("_settings")}


def add_flag(one: argparse.ArgumentParser, p: inspect.Parameter, text: str) -> None:
    flag = f"--{p.name.replace('_', '-')}"
    names = [flag] if "_" not in p.name else [flag, f"--{p.name}"]
    default = ",".join(p.default) if isinstance(p.default, list) else p.default
    shown = "" if default in (None, p.empty, False) else f" [{default}]"
    if isinstance(p.default, bool):
        one.add_argument(*names, dest=p.name, nargs="?", const="true", metavar="yes|no", help=text + shown)
    else:
        one.add_argument(*names, dest=p.name, metavar=p.name.upper(), help=text + shown)


def parsed(arguments: list[str]) -> tuple[str, dict[str, Any], bool]:
    """The verb, its keywords, and whether JSON is asked for. Raises TapetumError on anything unknown."""
    top = parser()
    known, extra = top.parse_known_args(arguments)
    given = {n: v for n, v in vars(known).items() if v is not None and n not in ("verb", "config", "json")}
    verb = getattr(verbs, known.verb)
    groups = grouped(extra, verb, known.verb)
    if known.config:
        file_own, file_groups = from_file(known.config, verb, known.verb)
        given = {**file_own, **given}
        groups = {name: {**file_groups.get(name, {}), **groups.get(name, {})} for name in GROUPS}
    hints = typing.get_type_hints(verb, vars(verbs))
    out: dict[str, Any] = {}
    for name, p in parameters(verb).items():
        if name in given:
            out[name] = settings.parse(f"--{name.replace('_', '-')}", given[name], hints[name])
        elif p.default is p.empty:
            raise TapetumError(f"`tapetum {known.verb}` needs --{name.replace('_', '-')}; see its --help.")
    return known.verb, out | {f"{n}_settings": g for n, g in groups.items() if g}, known.json


def grouped(extra: list[str], verb: Callable, name: str) -> dict[str, dict[str, Any]]:
    """The flags `--group.setting value` among what argparse did not know."""
    groups: dict[str, dict[str, Any]] = {}
    flags = [f"--{n.replace('_', '-')}" for n in parameters(verb)] + ["--json", "--config", "--help"]
    rest = iter(extra)
    for token in rest:
        flag, equals, value = token.partition("=")
        group, dot, setting = flag.removeprefix("--").partition(".")
        if not flag.startswith("--"):
            raise TapetumError(f"`tapetum {name}` does not know what to do with {token!r}.")
        if not dot or f"{group}_settings" not in inspect.signature(verb).parameters:
            groups_of = [f"--{g}.*" for g in GROUPS if f"{g}_settings" in inspect.signature(verb).parameters]
            raise unknown("flag", flag, flags + groups_of)
        if not equals and (value := next(rest, None)) is None:  # type: ignore[assignment]
            raise TapetumError(f"{flag} needs a value.")
        groups.setdefault(group, {})[setting.replace("-", "_")] = value
    return groups


def from_file(file: str, verb: Callable, name: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Settings from a YAML file, checked as flags are."""
    from pathlib import Path

    from tapetum.train import config

    flat = {n: v for n, v in config.read(Path(file)).items() if n not in config.FACTS}
    own, groups = config.split(flat)
    for key in own:
        if key not in parameters(verb):
            raise unknown(f"setting in {file}", key, [*parameters(verb), *(f"{g}.*" for g in GROUPS)])
    for group in groups:
        if groups[group] and f"{group}_settings" not in inspect.signature(verb).parameters:
            raise unknown(f"group of settings in {file}", group, GROUPS)
    if str(own.get("method", "")).endswith(".py"):
        raise TapetumError(f"{file} names the method file {own['method']}; a file with code is only ever typed: --method.")
    return own, groups


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 1 (training failed), 2 (bad input), 130 (interrupted)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    console.json_mode = "--json" in arguments
    try:
        verb, keywords, _ = parsed(arguments)
        result = getattr(verbs, verb)(**keywords)
        if console.json_mode:
            print(json.dumps(plain(result)))
        return 0
    except TapetumError as error:
        return failed(str(error), 1 if isinstance(error, TrainingFailed) else 2)
    except KeyboardInterrupt:
        return failed("interrupted.", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except MemoryError:
        return failed("there is not enough memory; a smaller --batch-size or --micro-batch auto needs less.", 2)
    except OSError as error:
        return failed(f"{error.filename or 'the system'}: {error.strerror or error}.", 2)


def failed(sentence: str, code: int) -> int:
    if console.json_mode:
        print(json.dumps({"error": sentence}))
    else:
        print(f"error: {sentence}", file=sys.stderr)
    return code


def plain(value: Any) -> Any:
    """A result as JSON has it."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
