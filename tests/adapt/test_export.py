"""A classifier as an ONNX file gives what it gives itself, head and all."""

import json

import numpy as np
import pytest
import torch

from tapetum.adapt.classifier import Classifier
from tapetum.adapt.export import export
from tapetum.adapt.fit import fit
from tapetum.base.errors import TapetumError
from tapetum.encoders import export as of_encoders

onnx = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def saved(photos, encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "clf"
    fit(encoder, photos, folder, repeats=1)
    return folder


def test_an_onnx_file_gives_the_same_and_names_its_classes(saved, photos, tmp_path):
    found = export(saved, tmp_path / "clf.onnx", "onnx")
    assert found["difference"] < 1e-4
    session = onnx.InferenceSession(tmp_path / "clf.onnx", providers=["CPUExecutionProvider"])
    made = Classifier.load(saved)
    x = torch.stack([torch.rand(3, 16, 16), torch.zeros(3, 16, 16), *torch.rand(3, 3, 16, 16)])
    probabilities, features, unlike = session.run(None, {"images": x.numpy()})
    said = made.predict(x)
    assert np.allclose(probabilities, said.probabilities, atol=1e-4)
    assert np.allclose(features, made.encoder.encode(x), atol=1e-4)
    assert unlike.dtype == bool and np.array_equal(unlike, said.unlike)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == made.classes
    assert json.loads(facts["preprocessing"])["image_size"] == 16


def test_other_formats_and_files_that_are_there_are_refused(saved, tmp_path):
    for name in ("timm", "safetensors"):
        with pytest.raises(TapetumError, match="exported with --format onnx, head and all"):
            export(saved, tmp_path / "x", name)
    (tmp_path / "x.onnx").write_text("mine")
    with pytest.raises(TapetumError, match="exists already"):
        export(saved, tmp_path / "x.onnx", "onnx")


def test_a_file_that_gives_other_numbers_is_not_left_behind(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(of_encoders, "TOLERANCE", -1.0)
    with pytest.raises(TapetumError, match="gives other features"):
        export(saved, tmp_path / "clf.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []
