"""Looks into an ONNX file without a runtime: its operators, what it takes and gives, which files it names."""

import mmap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tapetum.base.errors import TapetumError

MOST = 5_000_000  # fields of the whole file
_OWN = ("", "ai.onnx")  # ONNX's own domain of operators
# numbers of fields, as ONNX's definition has them
_MODEL = {"producer": 2, "version": 3, "graph": 7, "opset": 8, "metadata": 14}
_GRAPH = {"node": 1, "initializer": 5, "input": 11, "output": 12}


class _Fields:
    """Fields of messages in protobuf's encoding; counted, so that a hostile file ends."""

    def __init__(self):
        self.left = MOST

    def __call__(self, content: memoryview) -> Iterator[tuple[int, Any]]:
        at = 0
        while at < len(content):
            self.left -= 1
            if self.left < 0:
                raise ValueError(f"it has over {MOST:,} fields")
            key, at = _number(content, at)
            field, kind = key >> 3, key & 7
            if kind == 0:
                value, at = _number(content, at)
                yield field, value
                continue
            length = {1: 8, 5: 4}.get(kind)
            if kind == 2:
                length, at = _number(content, at)
            if length is None or length > len(content) - at:
                raise ValueError("a field of it is cut off")
            yield field, content[at : at + length]
            at += length


def _number(content: memoryview, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and where it ends."""
    found = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        byte = content[at]
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found, at
    raise ValueError("a number of it is cut off")


def outline(path: Path) -> dict[str, Any]:
    """What an ONNX file holds, in words. Raises TapetumError where it is none."""
    try:
        with path.open("rb") as file:  # the map is not closed by hand: an error may hold parts of it
            return _outline(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except (OSError, ValueError, TypeError) as error:
        raise TapetumError(f"{path} is damaged or no ONNX file: {error}.") from error


def _outline(content: memoryview) -> dict[str, Any]:
    fields = _Fields()
    model: dict[int, list[Any]] = {}
    for number, value in fields(content):
        model.setdefault(number, []).append(value)
    if len(graphs := model.get(_MODEL["graph"], [])) != 1:
        raise ValueError("it holds no network")
    sets: dict[str, int] = {}
    operators: Counter[str] = Counter()
    outside: list[str] = []
    for one in model.get(_MODEL["opset"], []):
        facts = dict(fields(one))
        sets[_text(facts.get(1, b"")) or "ai.onnx"] = facts.get(2, 0)
    ends: dict[str, list[str]] = {"input": [], "output": []}
    weights: list[str] = []
    for number, value in fields(graphs[0]):
        if number == _GRAPH["node"]:
            facts = dict(fields(value))
            domain, name = _text(facts.get(7, b"")), _text(facts.get(4, b""))
            operators[name if domain in _OWN else f"{domain}.{name}"] += 1
        elif number == _GRAPH["initializer"]:
            parts = list(fields(value))
            weights += [_text(part) for field, part in parts if field == 8]
            pairs = [_pair(fields, part) for field, part in parts if field == 13]
            outside += [value for key, value in pairs if key == "location"]
        elif number in (_GRAPH["input"], _GRAPH["output"]):
            side = "input" if number == _GRAPH["input"] else "output"
            ends[side].append(_text(dict(fields(value)).get(1, b"")))
    known = set(weights)
    foreign = sorted(set(sets) - set(_OWN))
    return {
        "made by": " ".join(_text(model.get(_MODEL[n], [b""])[-1]) for n in ("producer", "version")).strip(),
        "operator sets": [f"{name} {version}" for name, version in sets.items()],
        "operators": dict(operators.most_common(20)),
        "takes": [name for name in ends["input"] if name not in known],
        "gives": ends["output"],
        "weights": len(weights),
        "files it names": sorted(set(outside)),
        "metadata": dict(_pair(fields, one) for one in model.get(_MODEL["metadata"], [])),
        "in words": f"it needs operators of {', '.join(foreign)}, which are somebody's own code"
        if foreign
        else "its operators are ONNX's own",
    }  # fmt: skip


def _pair(fields: _Fields, content: memoryview) -> tuple[str, str]:
    """A key and its value."""
    facts = dict(fields(content))
    return _text(facts.get(1, b"")), _text(facts.get(2, b""))


def _text(value: Any) -> str:
    return bytes(value[:500]).decode(errors="replace") if isinstance(value, bytes | memoryview) else ""
