"""fit, predict, export and inspect as they are typed; bad input is one sentence and exit code 2."""

import json
import shutil
from pathlib import Path

import pytest

from tapetum import cli

SMALL = "random:resnet10_w32 photos --image-size 16"


@pytest.fixture(scope="module")
def model(tmp_path_factory, photos) -> Path:
    folder = tmp_path_factory.mktemp("model")
    shutil.copytree(photos, folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(f"fit {SMALL} --out clf --repeats 1".split()) == 0
        assert cli.main(["predict", "clf", "photos", "--out", "p.csv"]) == 0
    return folder


def test_what_is_typed_is_done_and_said(work, capsys):
    assert cli.main(["predict", "clf", "photos", "--out", "q.jsonl", "--labels", "folders", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 60 and found["accuracy"] > 0.9
    assert cli.main(["inspect", "clf"]) == 0
    out = capsys.readouterr().out
    assert "classifier" in out and "temperature" in out and "blue 20, green 20, red 20" in out
    typed = "fit clf photos --head finetune --finetune.epochs 1 --out tuned --json"
    assert cli.main(typed.split()) == 0
    assert json.loads(capsys.readouterr().out)["head"] == "finetune"


def flip(name: str):
    def damage():
        content = bytearray(Path(name).read_bytes())
        content[-3] ^= 255
        Path(name).write_bytes(content)

    return damage


def cut() -> None:
    for file in Path("photos").rglob("*.png"):
        file.write_bytes(file.read_bytes()[:60])


def nothing() -> None:
    """The command itself is wrong."""


FIT = f"fit {SMALL} --out new --repeats 1"
BAD = [
    ("a classifier that is there", nothing, f"fit {SMALL} --out clf", "clf exists already"),
    ("no data", nothing, FIT.replace("photos", "fotos"), "did you mean 'photos'?"),
    ("no labels", nothing, f"{FIT} --labels none", "have no labels"),
    ("a head that is none", nothing, f"{FIT} --head liner", "did you mean linear?"),
    ("a share above one", nothing, f"{FIT} --unlike 2", "must be a number from 0 to 1"),
    ("settings of another head", nothing, f"{FIT} --finetune.epochs 1", "are for --head finetune"),
    ("a setting that tuning lacks", nothing, f"{FIT} --head finetune --finetune.epoch 1", "'epochs'"),
    ("a setting of a method", nothing, f"{FIT} --method.dim 1", "unknown flag '--method.dim'"),
    ("a column that is not there", nothing, f"{FIT} --group-by patient", "patient"),
    ("images all cut off", cut, FIT, "none of the 60 images of photos can be read"),
    ("no such weights", nothing, FIT.replace("random:resnet10_w32", "resnet18@x.pt"), "no encoder x.pt"),
    ("no such model", nothing, FIT.replace("random:resnet10_w32", "resnet81@clf"), "unknown encoder"),
    ("no classifier", nothing, "predict photos photos --out x.csv", "photos is not a classifier"),
    ("no such classifier", nothing, "predict clg photos --out x.csv", "clg is not a classifier"),
    (
        "a head with a changed byte",
        flip("clf/classifier.safetensors"),
        "predict clf photos --out x.csv",
        "damaged",
    ),
    (
        "an encoder with a changed byte",
        flip("clf/encoder.safetensors"),
        "predict clf photos --out x.csv",
        "damaged",
    ),
    (
        "facts with a changed byte",
        flip("clf/classifier.json"),
        "predict clf photos --out x.csv",
        "classifier.json",
    ),
    ("the same, looked at", flip("clf/classifier.json"), "inspect clf", "classifier.json"),
    ("predictions that are there", nothing, "predict clf photos --out p.csv", "p.csv exists already"),
    ("predictions of another format", nothing, "predict clf photos --out p.xls", "unknown format '.xls'"),
    ("predictions of nothing", cut, "predict clf photos --out x.csv", "none of the 60 images"),
    ("a format that heads lack", nothing, "export clf --out x --format timm", "--format onnx, head and all"),
]


@pytest.mark.parametrize("damage, typed, sentence", [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_one_sentence(work, capsys, damage, typed, sentence):
    damage()
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    code = cli.main(typed.split())
    err = capsys.readouterr().err
    assert code == 2 and err.startswith("error: ") and sentence in err, err
    assert err.count("\n") == 1 and "Traceback" not in err
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before
