"""A number that can be believed: the value, its error bar, and what was measured how."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tapetum.base.errors import TapetumError
from tapetum.base.files import alone, read_json, short_id, write_json
from tapetum.evaluate.answers import Answers

FORMAT = 2


@dataclass(frozen=True)
class Result:
    """Args:
    name: the protocol and its metric, such as "knn accuracy".
    value: the number.
    error_bar: one standard error of it.
    interval: from where to where it is believed to lie, at 95 %.
    error_kind: over what these go.
    n: how many images were scored.
    seeds: of the draws behind it.
    protocol: how it was measured: data fingerprints, split, head, schedule, the protocol file's version.
    subject: what was measured: weights, preprocessing, layer, pooling, precision.
    row: what the subject is called in tables: "encoder", "start", "random weights", "pixels".
    notes: sentences that a reader of the number must know.
    details: what the protocol found on the way, such as the penalty that was chosen.
    cost: of the subject: parameters, multiplications of one image, width of the features.
    about: what people call the encoder, the set of images and its group; in no id.
    answers: for each image, by which two subjects are compared; kept in a file beside the results.
    """

    name: str
    value: float
    error_bar: float
    interval: tuple[float, float]
    error_kind: str
    n: int
    seeds: list[int]
    protocol: dict[str, Any]
    subject: dict[str, Any]
    row: str = "encoder"
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict, compare=False)
    answers: Answers | None = field(default=None, compare=False, repr=False)

    @property
    def title(self) -> str:
        """Its name, and on which set of images where a suite has several."""
        return self.name + (f" on {self.about['set']}" if self.about.get("set") else "")

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
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "answers"}
        return {"protocol_id": self.protocol_id, "subject_id": self.subject_id, **own}

    @classmethod
    def from_json(cls, facts: dict[str, Any], where: str = "a result") -> "Result":
        """Raises TapetumError when facts are missing or are not those that the ids were made of."""
        try:
            own = {f.name: facts[f.name] for f in fields(cls) if f.name not in ("answers", "about")}
            own |= {"about": facts.get("about") or {}}
            if wrong := [name for name, fits in _WANTED.items() if not fits(own[name])]:
                raise TypeError(f"its {wrong[0]}")
            low, high = map(_number, own["interval"])
            own |= {
                "interval": (low, high),
                "error_bar": _number(own["error_bar"]),
                "value": _number(own["value"]),
            }
            result = cls(**own)
            same = (result.protocol_id, result.subject_id) == (facts["protocol_id"], facts["subject_id"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise TapetumError(f"{where} is not a result: {error} is missing or of a wrong kind.") from error
        if not same:
            raise TapetumError(f"{where} was changed after it was written: its ids do not fit its facts.")
        return result


def _amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _each(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(part) is kind for part in value)


_WANTED: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("name", "error_kind", "row"), lambda value: isinstance(value, str)),
    **dict.fromkeys(
        ("protocol", "subject", "details", "cost", "about"), lambda value: isinstance(value, dict)
    ),
    "value": lambda value: value is None or _amount(value),
    "n": _amount,
    "seeds": _each(int),
    "notes": _each(str),
}


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


def spelt(a: dict[str, Any], b: dict[str, Any]) -> str:
    """In what a and b differ, with both values: "head.k (5 and 20), seeds ([0] and [1])"."""

    def value(facts: Any, name: str) -> str:
        for part in name.split("."):
            facts = facts.get(part) if isinstance(facts, dict) else None
        text = "none" if facts is None else str(facts)
        return text if len(text) <= 40 else f"{text[:37]}..."

    return ", ".join(f"{name} ({value(a, name)} and {value(b, name)})" for name in differences(a, b))


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
    whole = isinstance(content, dict) and isinstance(content.get("results"), list)
    if not whole or content.get("format") != FORMAT:
        raise TapetumError(f"{path} holds no results of format {FORMAT}.")
    return [Result.from_json(facts, f"result {i} in {path}") for i, facts in enumerate(content["results"])]


def add_results(path: str | Path, results: Iterable[Result], paths: Sequence[str] = ()) -> None:
    """Add to the results in a file; only one with the same protocol id and subject id is replaced.

    Answers go into the folder beside it that has the file's name; `paths` are those of all test images.
    """
    results = list(results)
    if Path(path).with_suffix("").is_symlink():
        raise TapetumError(f"{Path(path).with_suffix('')}, for the answers behind results, is a link.")
    for result in [*read_results(path), *results]:
        if not math.isfinite(result.value):
            raise TapetumError(f"{result.name} is {result}, which is no number to keep.")
    for result in results:
        if result.answers is not None:
            rows = [paths[row] for row in result.answers.rows.tolist()] if paths else []
            result.answers.save(answers_file(path, result), rows)
    with alone(Path(path).parent):  # another process may have added its own meanwhile
        merged = {(r.protocol_id, r.subject_id): r for r in [*read_results(path), *results]}
        write_json(path, {"format": FORMAT, "results": [finite(r.to_json()) for r in merged.values()]})


def answers_file(path: str | Path, result: Result) -> Path:
    """Where the answers behind a result of this file are kept."""
    return Path(path).with_suffix("") / f"{result.protocol_id}-{result.subject_id}.npz"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def finite(value: Any) -> Any:
    """JSON has no name for what is not a number: null."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
