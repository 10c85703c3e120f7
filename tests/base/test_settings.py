"""Settings as people type them: what each type takes, and the sentence for what it does not."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as any_

from tapetum.base import settings
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Share, Whole
from tapetum.parts.schedule import Ramp

Pair = tuple[float, float]


@pytest.mark.parametrize(
    "wanted, value, parsed",
    [
        (bool, "yes", True),
        (bool, "False", False),
        (bool, 0, False),
        (bool, True, True),
        (int, "12", 12),
        (int, "1e3", 1000),
        (int, 5.0, 5),
        (int, "9007199254740993", 9007199254740993),  # 2**53 + 1, which no float holds
        (float, "1e-3", 0.001),
        (float, 3, 3.0),
        (str, "none", "none"),
        (str, 2024, "2024"),
        (Pair, "0.2,1", (0.2, 1.0)),
        (Pair, "[0.2, 1.0]", (0.2, 1.0)),
        (Pair, [0, 1], (0.0, 1.0)),
        (tuple[str, ...], "knn,linear", ("knn", "linear")),
        (tuple[str, ...], "knn", ("knn",)),
        (tuple[int, ...], 5, (5,)),
        (tuple[int, ...], "", ()),
        (list[str], "a, b", ["a", "b"]),
        (float | None, "none", None),
        (str | None, "none", "none"),  # a word that means something to many settings
        (float | None, "0.5", 0.5),
        (Count | Literal["auto"] | None, "auto", "auto"),
        (Count | Literal["auto"] | None, "8", 8),
        (Whole, "0", 0),
        (Share, "1", 1.0),
        (Literal["bf16", "fp32"], "bf16", "bf16"),
        (Ramp, "0.996->1", Ramp(0.996, 1.0)),
        (Ramp, "0.04->0.07 until 0.1 linear", Ramp(0.04, 0.07, 0.1, "linear")),
        (Ramp, 0.05, Ramp(0.05, 0.05)),
        (Ramp, "0.05", Ramp(0.05, 0.05)),
        (dict[str, Any], {"a": 1}, {"a": 1}),
        (Any, "1,2", "1,2"),  # a path may look like anything
    ],
)
def test_what_a_type_takes(wanted, value, parsed):
    found = settings.parse("x", value, wanted)
    assert found == parsed and type(found) is type(parsed)


@pytest.mark.parametrize(
    "wanted, value, sentence",
    [
        (bool, "maybe", "x is 'maybe'; it must be true or false."),
        (bool, "treu", "x is 'treu'; did you mean true? It must be true or false."),
        (int, "ten", "x is 'ten'; it must be a whole number."),
        (int, "1.5", "x is '1.5'; it must be a whole number."),
        (int, "inf", "x is 'inf'; it must be a whole number."),
        (int, True, "x is True; it must be a whole number."),
        (float, "nan", "x is 'nan'; it must be a number."),
        (float, None, "x is None; it must be a number."),
        (Count, "0", "x is '0'; it must be a whole number of at least 1."),
        (Share, "1.01", "x is '1.01'; it must be a number from 0 to 1."),
        (Whole, -1, "x is -1; it must be a whole number of at least 0."),
        (str, ["a"], "x is ['a']; it must be text."),
        (Pair, "1", "x is '1'; it must be 2 values separated by a comma, each a number."),
        (Pair, "1,2,3", "x is '1,2,3'; it must be 2 values separated by a comma, each a number."),
        (tuple[int, ...], "1,b", "x is '1,b'; it must be values separated by commas, each a whole number."),
        (Literal["bf16", "fp32"], "bf61", "x is 'bf61'; did you mean bf16? It must be bf16 or fp32."),
        (Count | Literal["auto"] | None, "atuo", "x is 'atuo'; did you mean auto? It must be a whole number"),
        (Ramp, "0.9=>1", "x: '0.9=>1' is not a schedule"),
        (Ramp, True, "x is True; it must be a number, or a schedule such as 0.996->1."),
        (Ramp, [1], "x is [1]; it must be a number, or a schedule such as 0.996->1."),
        (dict[str, Any], "a", "x is 'a'; it must be settings."),
    ],
)
def test_what_a_type_refuses(wanted, value, sentence):
    with pytest.raises(TapetumError) as error:
        settings.parse("x", value, wanted)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize(
    "text, value",
    [
        ("12", 12),
        ("1e-3", 0.001),
        ("true", True),
        ("None", None),
        ("1,2", (1, 2)),
        ([1, [2, 3]], (1, (2, 3))),
        ("gelu", "gelu"),
        ("0.9->1", "0.9->1"),
        (3, 3),
    ],
)
def test_a_guess_goes_by_the_looks(text, value):
    found = settings.guess(text)
    assert found == value and type(found) is type(value)


NUMBERS = any_.floats(allow_nan=False, allow_infinity=False)
TYPES = [bool, int, float, str, Pair, tuple[int, ...], list[str], float | None, Count, Whole, Ramp]
TYPES += [Literal["bf16", "fp32"], Count | Literal["auto"] | None, dict[str, Any]]


@effort(max_examples=60, deadline=None)
@given(any_.integers(), NUMBERS, any_.lists(NUMBERS, min_size=1), any_.booleans())
def test_what_is_written_is_read(whole, number, numbers, flag):
    assert settings.parse("x", str(whole), int) == settings.guess(str(whole)) == whole
    assert settings.parse("x", repr(number), float) == settings.guess(repr(number)) == number
    typed = ",".join(map(repr, numbers))
    assert settings.parse("x", typed, tuple[float, ...]) == tuple(numbers)
    assert settings.parse("x", f"[{typed}]", tuple[float, ...]) == tuple(numbers)
    assert settings.parse("x", str(flag), bool) is flag


@effort(max_examples=60, deadline=None)
@given(NUMBERS, NUMBERS)
def test_a_schedule_is_written_as_it_is_read(start, end):
    ramp = Ramp(start, end)
    assert settings.parse("x", str(ramp), Ramp) == ramp


@effort(max_examples=100, deadline=None)
@given(
    any_.text(max_size=12)
    | any_.none()
    | any_.booleans()
    | any_.floats()
    | any_.lists(any_.text(), max_size=3)
)
def test_whatever_is_given_is_taken_or_refused_in_one_sentence(value):
    for wanted in TYPES:
        try:
            settings.parse("x", value, wanted)
        except TapetumError as error:
            assert str(error).startswith("x") and "\n" not in str(error)


class Method:
    def __init__(self, encoder, *, width: int, momentum: Ramp = Ramp(0.9, 1.0), share=0.5, extra=None):
        """Args:
        width: of the projector,
            in numbers.
        """


@dataclass
class Machine:
    """How it runs.

    Args:
        workers: processes that read images.
        first, second: two
            of a kind: both.

    What follows.
    """

    workers: int = 0
    first: str = ""
    second: str = ""


def test_a_signature_is_a_closed_schema():
    given = {"width": "8", "momentum": "0.99->1", "share": "1", "extra": "7"}
    found = settings.check("setting", given, Method)
    assert found == {"width": 8, "momentum": Ramp(0.99, 1.0), "share": 1.0, "extra": 7}
    assert type(found["share"]) is float  # as its default is
    for name in ("widht", "encoder", "self"):
        with pytest.raises(
            TapetumError, match=f"unknown setting '{name}'.*Allowed: extra, momentum, share, w"
        ):
            settings.check("setting", {name: 1}, Method)
    with pytest.raises(TapetumError, match=r"^method\.share is 'x'; it must be a number\.$"):
        settings.check("setting", {"share": "x"}, Method, "method.")


def test_a_signature_with_a_type_that_is_not_there():
    def broken(x: "Nowhere"): ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TapetumError, match=r"broken's signature asks for a type that is not there"):
        settings.check("setting", {"x": 1}, broken)


def test_a_docstring_says_what_settings_mean():
    assert settings.documented(Machine) == (
        "How it runs.",
        {
            "workers": "processes that read images.",
            "first": "two of a kind: both.",
            "second": "two of a kind: both.",
        },
        "What follows.",
    )
    assert settings.documented(Method.__init__)[1] == {"width": "of the projector, in numbers."}
