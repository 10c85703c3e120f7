"""The sentence for a name that is not known."""

import pytest

from tapetum.base.addresses import shown
from tapetum.base.errors import LONGEST, TapetumError, TrainingFailed, unknown


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


@pytest.mark.parametrize(
    "text, said",
    [
        ("the file a\nb is bad.", "the file a b is bad."),
        ("a \r\n  b", "a b"),
        (" \n a\n \n\tb\n", "a b"),
        ("cannot read x://me:a@b@host/a?key=1 or (s3://k:s@b)", "cannot read x://host/a or (s3://b)"),
        (
            "what stands before hides nothing: 1://me:secret@host",
            "what stands before hides nothing: 1://host",
        ),
        ("the class \x1b[31mred\x07 is unknown.", "the class \\x1b[31mred\\x07 is unknown."),
        ("turned \u202egnp.exe", "turned \\u202egnp.exe"),
        ("half a character \udcff", "half a character \\udcff"),
        ("ö and 猫 are seen", "ö and 猫 are seen"),
    ],
)
def test_a_sentence_is_one_line_that_steers_no_terminal(text, said):
    assert str(TapetumError(text)) == said


def test_a_sentence_ends():
    text = str(TapetumError(f"the name {'x' * 10**6} is too long."))
    assert len(text) <= LONGEST and text.startswith("the name x") and text.endswith("x is too long.")
    text = str(unknown("method", "simclr" * 10_000, ["byol", "simclr"]))
    assert len(text) < 300 and text.endswith("Allowed: byol, simclr.")


@pytest.mark.parametrize(
    "address",
    [
        "abfs://photos@account.dfs.core.windows.net/train",
        "filecache::abfss://photos@account.dfs.core.windows.net/a.pack",
        "s3://bucket/shard-?.tar",
        "gs://bucket/shard-??/class=a/*.parquet",
    ],
)
def test_addresses_without_a_secret_stay_whole(address):
    assert shown(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "https://me:hidden@host/a.zip?key=hidden",
        "https://host/a.zip?hidden",
        "https://hidden@host/a.zip",
        "sftp://me:hidden@host/a.zip",
        "abfs://me:hidden@account.dfs.core.windows.net/a.zip",
        "abfs://photos@account.dfs.core.windows.net/a.zip?sv=1&sig=hidden",
        "s3://bucket/a.zip?X-Amz-Signature=hidden",
    ],
)
def test_no_address_is_shown_with_its_secret(address):
    assert "hidden" not in shown(f"cannot read {address} at all") and shown(address).endswith("/a.zip")
