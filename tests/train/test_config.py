"""The settings of a run as a file: there and back, and what may change when a run goes on."""

import pytest

from tapetum.base.errors import TapetumError
from tapetum.parts.schedule import Ramp
from tapetum.train import config

FLAT = {
    "data": "photos",
    "fingerprint": "0123",
    "method": "simclr",
    "method.hidden": 16,
    "encoder": "resnet18",
    "encoder.channels": [4, 8],
    "split": None,
    "optimizer.weight_decay": "0.04->0.4",
    "views.small.crop.scale": [0.2, 1.0],
}


def test_settings_come_back_from_their_file(tmp_path):
    config.write(tmp_path / "config.yaml", FLAT)
    assert config.read(tmp_path / "config.yaml") == FLAT
    assert list(config.read(tmp_path / "config.yaml"))[:2] == ["data", "fingerprint"]
    assert "  channels: [4, 8]\n" in (tmp_path / "config.yaml").read_text()


def test_a_group_is_written_as_one_likes(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "method: simclr\nmethod.hidden: 16\nviews: {small: {crop: {scale: [0.2, 1]}}}\n"
    )
    (tmp_path / "b.yaml").write_text(
        "method: {name: simclr, hidden: 16}\nviews: {small.crop.scale: [0.2, 1]}\n"
    )
    expected = {"method": "simclr", "method.hidden": 16, "views.small.crop.scale": [0.2, 1]}
    assert config.read(tmp_path / "a.yaml") == config.read(tmp_path / "b.yaml") == expected
    own, groups = config.split(expected | {"fingerprint": "0123"})
    assert own == {"method": "simclr"}
    assert (groups["method"], groups["views"]) == ({"hidden": 16}, {"small.crop.scale": [0.2, 1]})


def test_an_empty_file_holds_no_settings(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert config.read(tmp_path / "empty.yaml") == {}


def test_groups_are_parsed_by_their_owners():
    given = {
        "method": {"momentum": "0.99->1", "hidden": "16"},
        "optimizer": {"lr": "1e-3", "weight_decay": 0.1},
        "encoder": {"depth": "6"},
        "views": {"crop.scale": "0.2,1", "flip": "0"},
    }
    found = config.parsed(given, "byol")
    assert found == {
        "method": {"momentum": Ramp(0.99, 1.0), "hidden": 16},
        "optimizer": {"lr": 0.001, "weight_decay": Ramp(0.1, 0.1)},
        "encoder": {"depth": 6},
        "views": {"crop.scale": (0.2, 1), "flip": 0},
    }
    assert config.parsed(found, "byol") == found


@pytest.mark.parametrize(
    "given",
    [
        {"method": None, "method.hidden": 16.0},
        {"devices": 2, "workers": 3, "micro_batch": 8, "keep_checkpoints": 5},  # the machine's
        {"encoder.channels": (4, 8), "optimizer.weight_decay": "0.04->0.4"},
    ],
)
def test_what_may_change_when_a_run_goes_on(given):
    config.refuse_changes(FLAT, given)


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"method": "byol", "method.hidden": 16}, "but method is 'simclr' in the run and 'byol' now; start"),
        (
            {"method.hidden": 32, "encoder.channels": [4, 9]},
            r"method\.hidden is 16 .* 32 now; encoder\.channels is",
        ),
        ({"views.flip": 0}, r"views\.flip is None in the run and 0 now"),
        ({"encoder.channels": [4, 8, 8]}, r"encoder\.channels"),
    ],
)
def test_what_may_not(given, sentence):
    with pytest.raises(TapetumError, match=sentence):
        config.refuse_changes(FLAT, given)
