"""All parsers that meet outside bytes, by name, and the inputs that once broke them."""

import base64
import json
from pathlib import Path

from benchmarks.fuzzing import of_data, of_runs
from benchmarks.fuzzing.judge import Target

CASES = Path(__file__).parent.parent.parent / "tests" / "fuzz" / "corpus" / "cases.jsonl"
TARGETS: dict[str, Target] = of_data.TARGETS | of_runs.TARGETS


def cases() -> list[dict]:
    """{"parser", "why", "data"}: what was found, minimised."""
    return [json.loads(line) for line in CASES.read_text().splitlines()] if CASES.exists() else []


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text)


def regressions(name: str) -> list[bytes]:
    """The inputs that once broke this parser."""
    return [decoded(case["data"]) for case in cases() if case["parser"] == name]
