"""A verb's settings are parsed from text and from Python alike, also those that repeat."""

import pytest

from tapetum import cli
from tapetum.base.errors import TapetumError
from tapetum.base.verb import VERBS, verb


@pytest.fixture
def gather(monkeypatch):
    """A verb with one setting before those that repeat."""
    monkeypatch.setattr("tapetum.base.verb.VERBS", dict(VERBS))

    def made(function):
        checked = verb(function)
        monkeypatch.setitem(cli.VERBS, function.__name__, checked)
        return checked

    @made
    def gather(into: str, *counts: int, twice: bool = False, into_too: str = "x") -> tuple:
        """Add numbers.

        Args:
            into: where they go.
            counts: what is added.
            twice: do it twice.
            into_too: another place.
        """
        return into, counts, twice, into_too

    return gather


def typed(text: str) -> tuple:
    name, keywords = cli.read(text.split())
    return cli.VERBS[name](**keywords)


@pytest.mark.parametrize(
    "text, counts, twice",
    [
        ("gather a", (), False),
        ("gather a 1 2 3", (1, 2, 3), False),
        ("gather a 1 --twice 2 3", (1, 2, 3), True),
        ("gather --twice a 1", (1,), True),
        ("gather a 1 2 --into-too y", (1, 2), False),
    ],
)
def test_what_repeats_is_typed_before_and_after_flags(gather, text, counts, twice):
    into, found, both, other = typed(text)
    assert (into, found, both) == ("a", counts, twice) and other == ("y" if "y" in text else "x")


def test_python_gives_it_as_it_is_used_to(gather):
    assert gather("a", 1, "2", twice="yes") == ("a", (1, 2), True, "x")
    assert gather(into="a") == ("a", (), False, "x")
    with pytest.raises(TapetumError, match="counts is"):
        gather("a", 1, "two")
    with pytest.raises(TapetumError, match="gather needs into"):
        gather()


def test_help_shows_that_it_repeats(gather, capsys):
    with pytest.raises(SystemExit):
        cli.parser("gather").parse_args(["--help"])
    out = capsys.readouterr().out
    assert "tapetum gather INTO COUNTS ... [--FLAG VALUE ...]" in " ".join(out.split())


def test_verbs_without_it_take_no_more(gather):
    with pytest.raises(TypeError, match="at most 1 positional"):
        VERBS["methods"]("a", "b")
    with pytest.raises(TapetumError, match="does not know what to do with 'b'"):
        cli.read(["methods", "a", "b"])
