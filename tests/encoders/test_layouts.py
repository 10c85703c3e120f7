"""Checkpoints in other projects' layouts give, after translation, the features of the network they are of."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tapetum.base.errors import TapetumError
from tapetum.encoders import Encoder, build, weights

WIDTH, DEPTH, HEADS = 32, 2, 2
SMALL = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
HF = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "attn_implementation": "eager",
}


def randomised(net: torch.nn.Module) -> torch.nn.Module:
    """Every parameter random and large enough that forgetting or swapping any shows in the features."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def loaded(name: str, image_size: int, state: dict[str, Tensor], folder: Path, **args) -> Encoder:
    save_file({n: t.contiguous() for n, t in state.items()}, folder / "w.safetensors")
    return build(name, image_size, weights=str(folder / "w.safetensors"), **SMALL, **args).eval()


def same_as_transformers(model: torch.nn.Module, encoder: Encoder) -> None:
    x = torch.rand(2, 3, encoder.image_size, encoder.image_size)
    with torch.no_grad():
        theirs = model((x - encoder.mean) / encoder.std).last_hidden_state
        ours = encoder.features(x)
    assert ours.prefix is not None and ours.tokens is not None
    torch.testing.assert_close(torch.cat([ours.prefix, ours.tokens], 1), theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.vector, theirs[:, 0], atol=1e-5, rtol=1e-5)


def before_version_5(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's names as its published files have them."""
    rules = [
        (r"attention\.([qkv])_proj", r"attention.attention.\1_"),
        (r"attention\.o_proj", "attention.output.dense"),
    ]
    rules += [(r"attention\.q_\.", "attention.query."), (r"attention\.k_\.", "attention.key.")]
    rules += [(r"attention\.v_\.", "attention.value."), (r"mlp\.down_proj", "mlp.weights_out")]
    out = {}
    for name, tensor in state.items():
        for old, new in rules:
            name = re.sub(old, new, name)
        out[name] = tensor
    for name in [n for n in out if ".mlp.gate_proj." in n]:
        parts = [out.pop(name), out.pop(name.replace("gate_proj", "up_proj"))]
        out[name.replace("gate_proj", "weights_in")] = torch.cat(parts)
    return out


@pytest.mark.parametrize("old", [False, True], ids=["since 5", "before 5"])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("registers", [False, True])
def test_dinov2_of_transformers(tmp_path, registers, gated, old):
    transformers = pytest.importorskip(
        "transformers", reason="transformers is the oracle for DINOv2's layout"
    )
    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    settings = {**HF, "image_size": 28, "patch_size": 14, "use_swiglu_ffn": gated}
    model = randomised(
        getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**settings))
    )
    state = before_version_5(model.state_dict()) if old else model.state_dict()
    size = "giant" if gated else "small"
    name = f"vit_{size}_patch14_{'reg4_' if registers else ''}dinov2"
    # a gated MLP's hidden width in transformers is 2/3 of 4 times the width, rounded up to a multiple of 8
    args = {"mlp_ratio": 2 * 88 / WIDTH} if gated else {}
    same_as_transformers(model, loaded(name, 28, state, tmp_path, patch_size=14, **args))


@pytest.mark.parametrize("gated", [False, True])
def test_dinov3_of_transformers(tmp_path, gated):
    transformers = pytest.importorskip(
        "transformers", reason="transformers is the oracle for DINOv3's layout"
    )
    settings = {**HF, "intermediate_size": 128, "image_size": 64, "patch_size": 16, "num_register_tokens": 4}
    settings |= {
        "use_gated_mlp": gated,
        "hidden_act": "silu" if gated else "gelu",
    }  # as in the published ones
    model = transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**settings))
    name = "vit_huge_plus_patch16_dinov3" if gated else "vit_small_patch16_dinov3"
    encoder = loaded(
        name + "_qkvb",
        64,
        randomised(model).state_dict(),
        tmp_path,
        patch_size=16,
        global_pool="token",
    )
    same_as_transformers(model, encoder)


def test_dinov3_biases_are_not_dropped_silently(tmp_path):
    full = randomised(build("vit_small_patch16_dinov3_qkvb", 64, patch_size=16, **SMALL))
    state = of_facebook_dinov3(full.net.state_dict())
    with pytest.raises(TapetumError, match=r"attn\.qkv\.bias is not zero.*_qkvb"):
        loaded("vit_small_patch16_dinov3", 64, state, tmp_path, patch_size=16)
    zero = {n: torch.zeros_like(t) if n.endswith("qkv.bias") else t for n, t in state.items()}
    encoder = loaded("vit_small_patch16_dinov3", 64, zero, tmp_path, patch_size=16)
    assert not any(name.endswith("q_bias") for name in encoder.net.state_dict())


def of_facebook_dinov3(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm's names -> those of facebookresearch/dinov3."""
    out = {"mask_token": torch.zeros(1, WIDTH), "rope_embed.periods": torch.ones(4)}
    for name, tensor in state.items():
        if name.endswith("attn.q_bias"):
            parts = [tensor, torch.full_like(tensor, torch.nan), state[name.replace("q_bias", "v_bias")]]
            out[name.replace("q_bias", "qkv.bias")] = torch.cat(parts)
        elif not name.endswith("v_bias"):
            name = re.sub(r"gamma_(\d)", r"ls\1.gamma", name)
            out[name.replace("reg_token", "storage_tokens")] = tensor
    return out


def same_features(one: Encoder, other: Encoder) -> None:
    x = torch.rand(2, 3, one.image_size, one.image_size)
    with torch.no_grad():
        torch.testing.assert_close(one(x), other(x), atol=1e-5, rtol=1e-5)


def test_dinov3_of_facebookresearch(tmp_path):
    args = {"patch_size": 16, "global_pool": "token"}
    start = randomised(build("vit_small_patch16_dinov3_qkvb", 64, **SMALL, **args))
    state = of_facebook_dinov3(start.net.state_dict())
    same_features(start, loaded("vit_small_patch16_dinov3_qkvb", 64, state, tmp_path, **args))


@pytest.mark.parametrize("chunks", [False, True])
def test_dinov2_of_facebookresearch(tmp_path, chunks):
    start = randomised(build("vit_small_patch14_reg4_dinov2", 28, patch_size=14, **SMALL))
    state = {}
    for name, tensor in start.net.state_dict().items():
        name = name.replace("reg_token", "register_tokens")
        state[re.sub(r"^blocks\.", "blocks.0." if chunks else "blocks.", name)] = tensor
    of_class = torch.randn(1, 1, WIDTH)  # the class token's own position, which timm adds to the token
    state["pos_embed"] = torch.cat([of_class, state["pos_embed"]], 1)
    state["cls_token"] = state["cls_token"] - of_class
    state["mask_token"] = torch.zeros(1, WIDTH)
    same_features(start, loaded("vit_small_patch14_reg4_dinov2", 28, state, tmp_path, patch_size=14))


def test_mae_of_facebookresearch(tmp_path):
    start = randomised(build("vit_base_patch16_224", 32, patch_size=8, **SMALL))
    decoder = {"decoder_pos_embed": torch.rand(1, 17, 8), "decoder_blocks.0.norm1.weight": torch.rand(8)}
    state = {**start.net.state_dict(), **decoder, "mask_token": torch.zeros(1, 1, 8)}
    same_features(start, loaded("vit_base_patch16_224.mae", 32, state, tmp_path, patch_size=8))


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "module.encoder_q.", "_orig_mod.backbone."])
def test_prefixes_and_heads_are_left_out(tmp_path, prefix):
    start = randomised(build("resnet10_w32", 32, stem="timm"))
    state = {prefix + name: t for name, t in start.net.state_dict().items()}
    state |= {prefix + "fc.weight": torch.rand(10, 256), "projector.0.weight": torch.rand(4, 4)}
    file = tmp_path / "w.safetensors"
    save_file(state, file)
    same_features(start, build("resnet10_w32", 32, weights=str(file)).eval())


def test_positions_and_patches_are_resampled_as_timm_does(tmp_path):
    from tapetum.base.torchvision_compat import timm

    start = randomised(build("vit_tiny_patch16_224", 32, patch_size=8, **SMALL))
    encoder = loaded("vit_tiny_patch16_224", 64, start.net.state_dict(), tmp_path, patch_size=4)
    wanted = timm.layers.resample_abs_pos_embed(start.net.pos_embed, new_size=[16, 16], num_prefix_tokens=1)
    torch.testing.assert_close(encoder.net.pos_embed, wanted)
    wanted = timm.layers.resample_patch_embed(start.net.patch_embed.proj.weight, [4, 4])
    torch.testing.assert_close(encoder.net.patch_embed.proj.weight, wanted)


def test_timms_conversion_is_left_out_where_nothing_is_to_convert(tmp_path):
    """It takes a Swin without its head for one of an older layout and moves its layers."""
    args = {"window_size": 2, "depths": (1, 1, 1, 1)}
    start = build("swin_tiny_patch4_window7_224", 32, **args)
    start.save(tmp_path)
    again = build("swin_tiny_patch4_window7_224", 32, weights=str(tmp_path), **args)
    assert again.digest() == start.digest()


@pytest.mark.parametrize("rename", [False, True])
def test_files_older_than_batchnorms_counters(tmp_path, rename):
    start = randomised(build("resnet10_w32", 32, stem="timm"))
    state = {n: t for n, t in start.net.state_dict().items() if "num_batches" not in n}
    if rename:
        state = {f"n{i}": t for i, t in enumerate(state.values())}
    torch.save(state, tmp_path / "w.pth")
    same_features(start, build("resnet10_w32", 32, stem="timm", weights=str(tmp_path / "w.pth")).eval())


def test_one_other_shape_in_the_order_is_refused(tmp_path):
    state = {
        f"n{i}": t for i, t in enumerate(build("resnet10_w32", 32, stem="timm").net.state_dict().values())
    }
    state["n1"], state["n0"] = state.pop("n0"), state.pop("n1")  # the same shapes, but not in order
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(TapetumError, match="are not known"):
        build("resnet10_w32", 32, stem="timm", weights=str(tmp_path / "w.pth"))


def test_same_shapes_under_other_names_load_in_order(tmp_path, capsys):
    start = randomised(build("resnet10_w32", 32, stem="timm"))
    state = {f"n{i:03}": t for i, t in enumerate(start.net.state_dict().values())}
    torch.save(state, tmp_path / "w.pth")
    encoder = build("resnet10_w32", 32, stem="timm")
    weights.load_into(encoder, tmp_path / "w.pth")
    same_features(start, encoder.eval())
    assert "in that order" in capsys.readouterr().out
