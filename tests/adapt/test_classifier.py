"""A classifier that was saved and loaded gives equal answers; one that was damaged is refused."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tapetum.adapt.classifier import Classifier, Head
from tapetum.adapt.fit import fit
from tapetum.base.errors import TapetumError
from tapetum.base.files import read_json, short_id, write_json
from tapetum.encoders import Encoder, load


@pytest.fixture(scope="module")
def made(photos, encoder) -> Classifier:
    return fit(encoder, photos, repeats=1)


@pytest.fixture
def saved(made, tmp_path) -> Path:
    made.save(tmp_path / "clf")
    return tmp_path / "clf"


def files(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.png"))[::7]


def test_saved_and_loaded_it_gives_equal_answers(made, saved, photos):
    before, after = made.predict(files(photos)), Classifier.load(saved).predict(files(photos))
    assert np.array_equal(before.probabilities, after.probabilities)
    assert np.array_equal(before.distance, after.distance) and np.array_equal(before.unlike, after.unlike)
    assert before.names == after.names == [file.parent.name for file in files(photos)]
    assert Classifier.load(saved).report == made.report
    assert load(saved).digest() == made.encoder.digest()  # its encoder serves by itself, too


def test_one_image_arrays_and_files_that_cannot_be_read(made, photos, tmp_path):
    one, *_ = files(photos)
    both = made.predict([one, one])
    assert np.allclose(made.predict(one).probabilities, both.probabilities[:1], atol=1e-6)
    bad = tmp_path / "bad.png"
    bad.write_bytes(one.read_bytes()[:40])
    with pytest.raises(TapetumError, match=r"image 1 .*bad.png"):
        made.predict([one, bad])
    found = made.predict([one, bad], errors="nan")
    assert found.names == [one.parent.name, ""] and found.there.tolist() == [True, False]
    assert np.isnan(found.probabilities[1]).all() and not found.unlike[1]


def test_the_network_gives_what_predict_says(made, photos):
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        probabilities, features, unlike = made(x)
    found = made.predict(x)
    assert np.allclose(probabilities, found.probabilities, atol=1e-6)
    assert np.allclose(features, made.encoder.encode(x), atol=1e-6)
    assert np.array_equal(unlike, found.unlike) and np.allclose(probabilities.sum(1), 1)


@pytest.mark.parametrize(
    "name, at",
    [(f"{part}.safetensors", at) for part in ("classifier", "encoder") for at in (-1, 2000, 30, 0)]
    + [("classifier.json", at) for at in (30, 200, -40)]
    + [("encoder.json", at) for at in (40, 150, -20)],
)
def test_a_changed_byte_is_refused(saved, name, at):
    content = bytearray((saved / name).read_bytes())
    content[at] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(TapetumError, match=r"damaged|readable|no classifier"):
        Classifier.load(saved)


@pytest.mark.parametrize(
    "name", ["classifier.json", "classifier.safetensors", "encoder.json", "encoder.safetensors"]
)
def test_a_missing_file_is_one_sentence(saved, name):
    (saved / name).unlink()
    with pytest.raises(TapetumError, match=name.partition(".")[0]):
        Classifier.load(saved)


@pytest.mark.parametrize(
    "name, value",
    [
        ("classes", ["blue", "blue", "red"]),
        ("classes", [1, 2, 3]),
        ("classes", ["blue", "red"]),
        ("temperature", 0),
        ("temperature", "1"),
        ("k", 0),
        ("k", 1000),
        ("threshold", "far"),
        ("precision", "float16"),
        ("report", []),
        ("format", 99),
        ("files", {}),
        ("files", {"classifier.safetensors": "0", "encoder.json": "0", "encoder.safetensors": "0"}),
    ],
)
def test_facts_that_somebody_made_up_are_checked(saved, name, value):
    facts = read_json(saved / "classifier.json") | {name: value}
    facts.pop("digest")
    write_json(saved / "classifier.json", facts | {"digest": short_id(facts)})
    with pytest.raises(TapetumError):
        Classifier.load(saved)


def test_tensors_that_somebody_made_up_are_checked(saved):
    tensors = load_file(saved / "classifier.safetensors")
    tensors["mean"][0] = torch.nan
    save_file(tensors, saved / "classifier.safetensors")
    facts = read_json(saved / "classifier.json")
    written = hashlib.sha256((saved / "classifier.safetensors").read_bytes()).hexdigest()
    facts["files"]["classifier.safetensors"] = written
    facts.pop("digest")
    write_json(saved / "classifier.json", facts | {"digest": short_id(facts)})
    with pytest.raises(TapetumError, match="does not hold the head"):
        Classifier.load(saved)


def test_nothing_is_overwritten_and_nothing_half_written(made, saved, tmp_path, monkeypatch):
    with pytest.raises(TapetumError, match="exists already"):
        made.save(saved)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 16))
    own = Classifier(Encoder.wrap(net, 4), made.head, made.classes, None)
    with pytest.raises(TapetumError, match="only Python can build"):
        own.save(tmp_path / "own")
    monkeypatch.setattr(Encoder, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(TapetumError, match="No space left"):
        made.save(tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"clf"}


def test_json_holds_no_more_than_plain_data(saved):
    facts = json.loads((saved / "classifier.json").read_text())
    assert facts["classes"] == ["blue", "green", "red"] and facts["report"]["images"]["red"] == 20


def test_many_features_are_taken_in_portions(made, monkeypatch):
    x = np.random.default_rng(0).normal(size=(50, made.encoder.dim)).astype(np.float32)
    whole = made.of_features(x)
    monkeypatch.setattr("tapetum.adapt.classifier.PORTION", 7)
    parts = made.of_features(x)
    assert np.allclose(whole.probabilities, parts.probabilities, atol=1e-6)
    assert np.allclose(whole.distance, parts.distance, atol=1e-6)
    assert isinstance(made.head, Head)
