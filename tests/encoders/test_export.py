"""What is exported gives the same features in other tools, in a process that knows nothing of tapetum."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from tapetum.base.errors import TapetumError
from tapetum.encoders import Encoder, build, load
from tapetum.encoders.export import export

SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 2}
EXPRESSIBLE = {
    "vit": ("vit_tiny_patch16_224", SMALL),
    "vit averaged": ("vit_tiny_patch16_224", {**SMALL, "global_pool": "avg"}),
    "vit rotary": ("vit_small_patch16_dinov3", {**SMALL, "init_values": 1.0}),
    "resnet": ("resnet10_w32", {"stem": "timm"}),
    "resnet for small images": ("resnet32_w64", {}),
    "convnext": ("convnext_mini", {}),
    "efficientnet": ("test_efficientnet", {}),
}
OTHER_PROCESS = """
import json, sys
import torch
try:
    import torchvision
except RuntimeError:  # its compiled part is missing beside a CPU-only torch
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import timm
from safetensors.torch import load_file, save_file

images, out, *folders = sys.argv[1:]
x, features = load_file(images)["images"], {}
for folder in folders:
    model = timm.create_model("local-dir:" + folder, pretrained=True).eval()
    cfg = model.pretrained_cfg
    mean, std = (torch.tensor(cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    assert tuple(cfg["input_size"]) == tuple(x.shape[1:]), cfg
    with torch.no_grad():
        features[folder] = model((x - mean) / std).contiguous()
save_file(features, out)
assert not any(name.startswith("tapetum") for name in sys.modules)
"""


def randomised(encoder: Encoder) -> Encoder:
    """Every parameter and statistic random: gates that start at zero would hide what differs behind them."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in encoder.net.state_dict().items():
        if tensor.is_floating_point():
            noise = 0.1 * torch.randn(tensor.shape, generator=generator)
            tensor.add_(noise.abs() if name.endswith("running_var") else noise)
    return encoder.eval()


def made(kind: str) -> Encoder:
    name, args = EXPRESSIBLE[kind]
    return randomised(build(name, 32, **args))


def test_timm_reads_the_folders_in_a_process_without_tapetum(tmp_path):
    from safetensors.torch import load_file, save_file

    x = torch.rand(3, 3, 32, 32)
    save_file({"images": x}, tmp_path / "x.safetensors")
    encoders = {str(tmp_path / str(i)): made(kind) for i, kind in enumerate(EXPRESSIBLE)}
    for folder, encoder in encoders.items():
        export(encoder, folder, "timm")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        OTHER_PROCESS,
        tmp_path / "x.safetensors",
        tmp_path / "y.safetensors",
    ]
    subprocess.run([*command, *encoders], check=True, cwd=tmp_path)
    theirs = load_file(tmp_path / "y.safetensors")
    for folder, encoder in encoders.items():
        with torch.no_grad():
            torch.testing.assert_close(theirs[folder], encoder(x), atol=1e-4, rtol=1e-4, msg=encoder.name)
            torch.testing.assert_close(load(folder)(x), encoder(x), atol=1e-5, rtol=1e-5, msg=encoder.name)


def test_the_folder_carries_the_preprocessing(tmp_path):
    encoder = made("vit")
    export(encoder, tmp_path / "out", "timm")
    facts = json.loads((tmp_path / "out" / "config.json").read_text())
    cfg = facts["pretrained_cfg"]
    assert cfg["mean"] == list(encoder.spec.mean) and cfg["std"] == list(encoder.spec.std)
    assert (cfg["input_size"], cfg["crop_pct"], cfg["interpolation"]) == ([3, 32, 32], 1.0, "bilinear")
    assert (facts["num_classes"], facts["num_features"]) == (0, 48)
    assert load(tmp_path / "out").spec.preprocessing() == encoder.spec.preprocessing()


def test_the_blank_token_is_not_exported(tmp_path):
    encoder = made("vit")
    encoder.add_blank()
    export(encoder, tmp_path / "out", "timm")


@pytest.mark.parametrize("kind", ["vit", "resnet for small images", "efficientnet"])
def test_onnx_runtime_gives_the_same_features(tmp_path, kind):
    pytest.importorskip("onnxscript", reason="the exporter needs onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the reader")
    encoder = made(kind)
    export(encoder, tmp_path / "out.onnx", "onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["out.onnx"], "one file, weights and all"
    session = onnxruntime.InferenceSession(tmp_path / "out.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 5):
        x = torch.rand(count, 3, 32, 32)
        (theirs,) = session.run(None, {"images": x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(theirs, encoder(x).numpy(), atol=1e-4, rtol=1e-4)


def test_what_timm_cannot_express_is_refused_and_kept_as_safetensors(tmp_path):
    encoder = randomised(build("resnet10_w32", 32))
    with pytest.raises(TapetumError, match="cannot express resnet10_w32 with its stem 3x3/2"):
        export(encoder, tmp_path / "timm", "timm")
    own = Encoder.wrap(torch.nn.Flatten(), 8)
    with pytest.raises(TapetumError, match="a module of your own"):
        export(own, tmp_path / "timm", "timm")
    export(encoder, tmp_path / "ours", "safetensors")
    assert load(tmp_path / "ours").digest() == encoder.digest()
    assert [file.name for file in tmp_path.iterdir()] == ["ours"]


def test_equal_names_and_shapes_are_not_enough(tmp_path):
    """A stride that timm does not know of loads strictly; only the features tell."""
    encoder = made("resnet")
    encoder.net.layer2[0].conv1.stride = (1, 1)
    encoder.net.layer2[0].downsample[0].stride = (1, 1)
    with pytest.raises(TapetumError, match="other features"):
        export(encoder, tmp_path / "out", "timm")
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_what_timm_cannot_load_back_is_refused(tmp_path):
    swin = build("swin_tiny_patch4_window7_224", 32, window_size=2, depths=(1, 1, 1, 1))
    with pytest.raises(TapetumError, match=r"timm cannot load swin_tiny.*Missing key"):
        export(swin, tmp_path / "out", "timm")
    assert list(tmp_path.iterdir()) == []


def test_onnx_says_what_is_missing_and_what_is_too_large(tmp_path, monkeypatch):
    encoder = made("resnet")
    monkeypatch.setattr("tapetum.encoders.export.ONNX_LIMIT", 1000)
    pytest.importorskip("onnxscript", reason="the exporter needs onnxscript")
    with pytest.raises(TapetumError, match="exceeds the 2 GB"):
        export(encoder, tmp_path / "out.onnx", "onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(TapetumError, match=r"needs onnxscript: pip install tapetum\[onnx\]"):
        export(encoder, tmp_path / "out.onnx", "onnx")


def test_nothing_is_overwritten_and_words_are_checked(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    with pytest.raises(TapetumError, match="exists already"):
        export(made("resnet"), tmp_path / "there", "timm")
    assert (tmp_path / "there" / "mine.txt").read_text() == "mine"
    with pytest.raises(TapetumError, match="unknown format 'onx'; did you mean 'onnx'"):
        export(made("resnet"), tmp_path / "out", "onx")


def test_the_encoder_is_left_as_it_was(tmp_path):
    encoder = made("resnet").train()
    before = encoder.digest()
    export(encoder, tmp_path / "out", "timm")
    assert encoder.training and encoder.digest() == before
    assert all(p.requires_grad for p in encoder.parameters())
