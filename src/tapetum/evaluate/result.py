"""A number that can be believed: the value, its error bar, and what was measured how."""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tapetum.base.errors import TapetumError
from tapetum.base.files import read_json, write_json

FORMAT = 1


def short_id(facts: dict[str, Any]) -> str:
    """12 hex digits that name these facts, whatever their order."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Result:
    """Args:
    name: the protocol and its metric, such as "knn accuracy".
    value: the number.
    error_bar: one standard error of it.
    error_kind: over what that standard error goes.
    n: how many images were scored.
    seeds: of the draws behind it.
    protocol: how it was measured: data fingerprints, split, head, schedule, the protocol file's version.
    subject: what was measured: weights, preprocessing, layer, pooling, precision.
    row: what the subject is called in tables: "encoder", "start", "random weights", "pixels".
    notes: sentences that a reader of the number must know.
    details: what the protocol found on the way, such as the penalty that was chosen.
    """

    name: str
    value: float
    error_bar: float
    error_kind: str
    n: int
    seeds: list[int]
    protocol: dict[str, Any]
    subject: dict[str, Any]
    row: str = "encoder"
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def protocol_id(self) -> str:
        """Numbers are compared only where this is equal."""
        return short_id(self.protocol)

    @property
    def subject_id(self) -> str:
        """The same for the same weights, preprocessing, layer, pooling and precision."""
        return short_id(self.subject)

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.error_bar:.4f}"

    def to_json(self) -> dict[str, Any]:
        """Everything, with both ids, as JSON has it."""
        return {"protocol_id": self.protocol_id, "subject_id": self.subject_id, **asdict(self)}

    @classmethod
    def from_json(cls, facts: dict[str, Any], where: str = "a result") -> "Result":
        """Raises TapetumError when facts are missing or are not those that the ids were made of."""
        try:
            result = cls(**{f.name: facts[f.name] for f in fields(cls)})
            same = (result.protocol_id, result.subject_id) == (facts["protocol_id"], facts["subject_id"])
        except (KeyError, TypeError) as error:
            raise TapetumError(f"{where} is not a result: {error} is missing or of a wrong kind.") from error
        if not same:
            raise TapetumError(f"{where} was changed after it was written: its ids do not fit its facts.")
        return result


def differences(a: dict[str, Any], b: dict[str, Any], within: str = "") -> list[str]:
    """The names of the facts in which a and b differ, such as "head.k"."""
    found: list[str] = []
    for name in sorted(a.keys() | b.keys()):
        mine, other = a.get(name), b.get(name)
        if isinstance(mine, dict) and isinstance(other, dict):
            found += differences(mine, other, f"{within}{name}.")
        elif mine != other:
            found.append(within + name)
    return found


def comparable(results: Iterable[Result]) -> list[Result]:
    """The results, if one protocol id stands behind all; else TapetumError says in what they differ."""
    results = list(results)
    for other in results[1:]:
        if other.protocol_id != results[0].protocol_id:
            names = ", ".join(differences(results[0].protocol, other.protocol))
            raise TapetumError(
                f"{results[0].name} and {other.name} cannot be compared: their protocols differ in {names}."
            )
    return results


def read_results(path: str | Path) -> list[Result]:
    """The results in a file; none when there is no file. Raises TapetumError when it is damaged."""
    if not Path(path).exists():
        return []
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT or "results" not in content:
        raise TapetumError(f"{path} holds no results of format {FORMAT}.")
    return [Result.from_json(facts, f"result {i} in {path}") for i, facts in enumerate(content["results"])]


def add_results(path: str | Path, results: Iterable[Result]) -> None:
    """Add to the results in a file; only one with the same protocol id and subject id is replaced."""
    merged = {(r.protocol_id, r.subject_id): r for r in [*read_results(path), *results]}
    for result in merged.values():
        if not math.isfinite(result.value + result.error_bar):
            raise TapetumError(f"{result.name} is {result}, which is no number to keep.")
    write_json(path, {"format": FORMAT, "results": [result.to_json() for result in merged.values()]})
