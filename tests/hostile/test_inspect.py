"""`tapetum inspect` says what a stranger's file is without unpickling, running or trusting any of it."""

import sys
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

import tapetum
from hostile.guard import Guard
from hostile.made import ESC, Runs, commands, photos
from tapetum import cli
from tapetum.base.errors import TapetumError
from tapetum.base.torchvision_compat import timm
from tapetum.encoders.guess import architecture
from tapetum.encoders.pickled import look
from tapetum.encoders.weights import read

STATE = OrderedDict(
    {
        "module.conv1.weight": torch.zeros(8, 3, 3, 3),
        "module.half": torch.zeros(4, dtype=torch.float16),
        "module.long": torch.zeros((), dtype=torch.int64),
    }
)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"epoch": 3, "state_dict": s, "lr": 0.1}])
@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_of_a_pickle_are_named_with_their_shapes(tmp_path, old, wrap, protocol):
    file = tmp_path / "a.pt"
    torch.save(wrap(STATE), file, _use_new_zipfile_serialization=not old, pickle_protocol=protocol)
    found = look(file)
    assert found.strange == [] and "collections.OrderedDict" in found.names
    shapes = {name.removeprefix("state_dict."): shape for name, (_, shape) in found.tensors.items()}
    assert shapes == {name: list(tensor.shape) for name, tensor in STATE.items()}
    if protocol == 2:  # torch's safe loader takes no other
        assert shapes == {name: list(tensor.shape) for name, tensor in read(file).items()}
    kinds = {name.rpartition(".")[2]: kind for name, (kind, _) in found.tensors.items()}
    assert kinds == {"weight": "float", "half": "half", "long": "long"}


def test_parameters_and_settings_beside_weights_are_no_code(tmp_path):
    import argparse

    content = {"model": {"w": torch.nn.Parameter(torch.zeros(2))}, "args": argparse.Namespace(lr=1)}
    torch.save(content, tmp_path / "a.pth")
    assert look(tmp_path / "a.pth").strange == [] and list(read(tmp_path / "a.pth")) == ["w"]


def test_what_a_pickle_would_import_is_said_and_nothing_is_imported(tmp_path, capsys):
    torch.save({"w": torch.zeros(2), **commands()}, tmp_path / "a.ckpt")
    before = set(sys.modules)
    with Guard().watching(tmp_path) as seen:
        found = tapetum.inspect(str(tmp_path / "a.ckpt"))
    assert {"posix.system", "builtins.exec", "subprocess.Popen"} <= set(found["would import"])
    assert "could run any code" in found["in words"] and found["tensors"] == ["w [2] float"]
    assert not any("find_class" in event or "system" in event for event in seen)
    assert "antigravity" not in set(sys.modules) - before
    assert "would import" in capsys.readouterr().out


def test_a_name_is_found_however_it_is_hidden(tmp_path):
    nested = {"a": [{"b": (Runs(print, "x"),)}]}
    torch.save({"w": torch.zeros(2), "n": nested}, tmp_path / "a.pt")
    assert look(tmp_path / "a.pt").strange == ["builtins.print"]


def test_a_safetensors_is_told_of_without_reading_its_numbers(tmp_path, capsys):
    shapes = {
        n: t.shape for n, t in timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict().items()
    }
    save_file(
        {n: torch.zeros(s, dtype=torch.float16) for n, s in shapes.items()},
        tmp_path / "a.safetensors",
        {"by": ESC},
    )
    found = tapetum.inspect(str(tmp_path / "a.safetensors"))
    assert found["looks like"] == "vision transformer, 12 blocks, width 192, patches of 16 x 16 pixels"
    assert found["count"] == len(shapes) and found["numbers"] == sum(s.numel() for s in shapes.values())
    assert found["metadata"] == {"by": ESC} and "\x1b" not in capsys.readouterr().out


NETWORKS = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "convnext_atto": "ConvNeXt",
    "swin_tiny_patch4_window7_224": "Swin Transformer",
    "deit_small_patch16_224": "vision transformer, 12 blocks, width 384, patches of 16 x 16 pixels",
    "mobilenetv3_small_050": "EfficientNet or MobileNet",
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_guessed_from_its_tensors(name):
    with torch.device("meta"):
        net = timm.create_model(name)
    shapes = {f"module.encoder.{n}": list(t.shape) for n, t in net.state_dict().items()}
    assert architecture(shapes) == NETWORKS[name]


def test_names_that_say_nothing_are_no_network():
    assert architecture({"a": [1], "b.weight": [2, 2]}) == "" and architecture({}) == ""


def test_an_onnx_file_is_told_of_without_a_runtime(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    nodes = [helper.make_node("Add", ["x", "w"], ["y"]), helper.make_node("Spy", ["y"], ["z"], domain="evil")]
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])  # noqa: E731
    graph = helper.make_graph(nodes, "g", [value("x")], [value("z")], [weight])
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("evil", 1)]
    model = helper.make_model(graph, producer_name="somebody", opset_imports=sets)
    helper.set_model_props(model, {"note": "hello"})
    onnx.save(model, tmp_path / "a.onnx")
    found = tapetum.inspect(str(tmp_path / "a.onnx"))
    assert (found["takes"], found["gives"], found["weights"]) == (["x"], ["z"], 1)
    assert found["operators"] == {"Add": 1, "evil.Spy": 1} and found["made by"] == "somebody"
    assert found["metadata"] == {"note": "hello"} and "operators of evil" in found["in words"]
    assert found["operator sets"] == ["ai.onnx 18", "evil 1"] and found["files it names"] == []


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_each_record_of_a_pack_is_checked(tmp_path, capsys, form):
    photos(tmp_path / "photos", 6)
    file = tmp_path / "x.pack"
    assert (
        cli.main(["pack", str(tmp_path / "photos"), "--out", str(file), "--format", form, "--size", "16"])
        == 0
    )
    assert tapetum.inspect(str(file))["records"].startswith("6 of 6 hold an image")
    content = bytearray(file.read_bytes())
    content[4096 + 700] ^= 255
    file.write_bytes(content)
    with pytest.raises(TapetumError, match="1 of 6 records are damaged"):
        tapetum.inspect(str(file))
