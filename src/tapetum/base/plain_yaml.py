"""YAML by the safe loader and within limits: no key twice, no depths, no aliases that unfold without end."""

from pathlib import Path
from typing import Any

import yaml

from tapetum.base.errors import TapetumError
from tapetum.base.files import regular

LONGEST = 2**18  # bytes
MOST = 20_000  # words, lists and maps, with all aliases written out
DEEPEST = 40


def read(path: Path, kind: str = "settings file") -> Any:
    """What a YAML file holds. Raises TapetumError naming the file when it is none, or beyond the limits."""
    try:
        with regular(path).open("rb") as file:
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise TapetumError(f"{path} is longer than the {LONGEST:,} bytes that a {kind} may have.")
        return _value(_Loader(content.decode()))
    except FileNotFoundError:
        raise TapetumError(f"there is no {kind} {path}.") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise TapetumError(f"{path} is not readable YAML: {error.problem}, in line {line}.") from error
    except RecursionError as error:
        raise TapetumError(f"{path} is not readable YAML: it is nested too deeply.") from error
    except OSError as error:
        raise TapetumError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        why = " ".join(str(error).split())[:200]  # such as a 13th month
        raise TapetumError(f"{path} is not readable YAML: {why}.") from error


class _Loader(yaml.SafeLoader):
    """Safe, and unlike PyYAML's own it refuses a key that stands twice."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _wrong("a key is one word", key)
            if key.value in seen:
                raise _wrong(f"the key {key.value!r} stands twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _wrong(what: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


def _value(loader: _Loader) -> Any:
    node = loader.get_single_node()
    if node is None:
        return None
    _unfolded(node, {}, 0)
    return loader.construct_document(node)


def _unfolded(node: yaml.Node, known: dict[int, int], deep: int) -> int:
    """How many nodes this one stands for; raises MarkedYAMLError beyond the limits."""
    if id(node) in known:
        return known[id(node)]
    if deep > DEEPEST:
        raise _wrong(f"it is nested more than {DEEPEST} deep", node)
    known[id(node)] = MOST + 1  # for one that stands in itself
    inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else []
    inner = node.value if isinstance(node, yaml.SequenceNode) else inner
    total = 1 + sum(_unfolded(part, known, deep + 1) for part in inner)
    if total > MOST:
        raise _wrong(f"it unfolds to more than {MOST:,} parts", node)
    known[id(node)] = total
    return total
