"""The sentence for a name that is not known."""

import pytest

from tapetum.base.errors import TapetumError, TrainingFailed, unknown


@pytest.mark.parametrize(
    "name, allowed, sentence",
    [
        (
            "simcrl",
            ["simclr", "byol"],
            "unknown method 'simcrl'; did you mean 'simclr'? Allowed: byol, simclr.",
        ),
        ("xyz", ["simclr", "byol"], "unknown method 'xyz'. Allowed: byol, simclr."),
        ("xyz", [], "unknown method 'xyz'. Allowed: none."),
        (3, {"3a": 1}, "unknown method 3; did you mean '3a'? Allowed: 3a."),
    ],
)
def test_the_nearest_is_named_and_all_that_is_allowed(name, allowed, sentence):
    assert str(unknown("method", name, allowed)) == sentence


def test_of_many_names_some_are_shown():
    sentence = str(unknown("encoder", "resnet81", [f"resnet{i}" for i in range(1000)]))
    assert "did you mean 'resnet8" in sentence and sentence.endswith(" and 960 more.") and len(sentence) < 600


def test_failed_training_is_caught_with_the_others():
    assert issubclass(TrainingFailed, TapetumError)
