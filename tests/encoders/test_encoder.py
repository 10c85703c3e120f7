"""One pass gives all that an encoder promises, for every family of backbones; the rest is refused."""

import copy
import socket

import pytest
import torch
from torch import nn

from tapetum.base.errors import TapetumError
from tapetum.base.torchvision_compat import timm
from tapetum.encoders import Encoder, build, load
from tapetum.encoders.build import again

SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 2}
VITS = {
    "token": ("vit_tiny_patch16_224", SMALL),
    "average": ("vit_tiny_patch16_224", {**SMALL, "global_pool": "avg"}),
    "registers": ("vit_small_patch14_reg4_dinov2", {**SMALL, "init_values": 1.0}),
    "rotary": ("vit_small_patch16_dinov3", {**SMALL, "init_values": 1.0}),
    "rotary by block": ("vit_small_patch16_rope_mixed_224", {"depth": 2, "embed_dim": 96}),
}
OTHERS = {
    "resnet": ("resnet10_w32", {}, ()),
    "convnext": ("convnext_mini", {}, ()),
    "efficientnet": ("tf_efficientnet_lite0", {}, ()),
    "channels last": ("swin_tiny_patch4_window7_224", {"window_size": 2, "depths": (1, 1, 1, 1)}, ()),
    "tokens, no prefix": ("mixer_s16_224", {}, (0,)),
    "tokens, prefix": ("beit_base_patch16_224", {"depth": 1}, (1,)),
    "width before the head": ("mobilenetv3_small_050", {}, ()),
}


@pytest.fixture(params=VITS.values(), ids=VITS.keys())
def vit(request) -> Encoder:
    name, args = request.param
    return build(name, 32, **args).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def normalised(encoder: Encoder, x: torch.Tensor) -> torch.Tensor:
    return (x - encoder.mean) / encoder.std


@torch.no_grad()
def test_the_vector_is_timms(vit, x):
    torch.testing.assert_close(vit(x), vit.net(normalised(vit, x)))
    features = vit.features(x)
    assert features.tokens.shape == (2, vit.grid**2, vit.dim)
    assert features.prefix.shape == (2, vit.net.num_prefix_tokens, vit.dim)
    torch.testing.assert_close(vit.maps(x).flatten(2).mT, features.tokens)


@torch.no_grad()
def test_tokens_are_after_the_final_norm(x):
    encoder = build("vit_tiny_patch16_224", 32, **SMALL, global_pool="avg").eval()  # its norm is fc_norm
    tokens = encoder.tokens(x)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 64), atol=1e-5, rtol=0)


@torch.no_grad()
def test_kept_patches_keep_their_positions(vit, x):
    """Shown in another order, patches give the same tokens: positions, rotary ones too, went along."""
    order = torch.stack([torch.randperm(vit.grid**2) for _ in range(2)])
    whole, shown = vit.features(x), vit.features(x, keep=order)
    at = order[..., None].expand(-1, -1, vit.dim)
    torch.testing.assert_close(shown.tokens, whole.tokens.gather(1, at), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(shown.vector, whole.vector, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_kept_patches_image_by_image(vit, x):
    """Written slowly: each image alone, its patches picked by hand."""
    keep = torch.stack([torch.randperm(vit.grid**2)[:5] for _ in range(2)])
    shown = vit.features(x, keep=keep)
    for i in range(2):
        tokens = vit.net.patch_embed(normalised(vit, x[i : i + 1]))
        given = vit.net._pos_embed(tokens)
        given, rope = given if isinstance(given, tuple) else (given, None)
        first = vit.net.num_prefix_tokens
        some = torch.cat([given[:, :first], given[:, [first + int(k) for k in keep[i]]]], 1)
        some = vit.net.norm_pre(some)
        for number, block in enumerate(vit.net.blocks):
            if rope is None:
                some = block(some)
            else:
                own = rope[number] if rope.ndim == 4 else rope  # [heads, N, R] or [N, R]
                some = block(some, rope=own[..., keep[i], :])
        vector = vit.net.forward_head(vit.net.norm(some))
        torch.testing.assert_close(shown.vector[i : i + 1], vector, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_patches_that_are_not_kept_have_no_influence(vit, x):
    keep = torch.arange(0, vit.grid**2, 2).expand(2, -1)
    spoilt = x.clone()
    patches = spoilt.unflatten(3, (-1, vit.patch)).unflatten(2, (-1, vit.patch))  # [B, C, H, p, W, p]
    patches[:, :, :, :, 1::2] = 0.5  # the grid is even: odd patches stand in odd columns
    assert vit.features(x, keep=keep).tokens.shape[1] == vit.grid**2 // 2
    torch.testing.assert_close(vit.tokens(x, keep=keep), vit.tokens(spoilt, keep=keep))
    assert not torch.allclose(vit.tokens(x), vit.tokens(spoilt))


def test_hidden_patches_are_blank(vit, x):
    hide = torch.zeros(2, vit.grid**2, dtype=torch.bool)
    hide[:, 1::2] = True
    with pytest.raises(TapetumError, match="add_blank"):
        vit.features(x, hide=hide)
    vit.add_blank()
    spoilt = x.clone()
    spoilt.unflatten(3, (-1, vit.patch)).unflatten(2, (-1, vit.patch))[:, :, :, :, 1::2] = 0.5
    tokens = vit.tokens(x, hide=hide)
    torch.testing.assert_close(tokens, vit.tokens(spoilt, hide=hide))
    tokens.square().sum().backward()
    assert vit.blank.grad.abs().sum() > 0
    assert not any("blank" in name for name in vit.net.state_dict())


@torch.no_grad()
def test_causal_tokens_do_not_see_those_after_them(vit, x):
    spoilt = x.clone()
    spoilt[:, :, -vit.patch :, -vit.patch :] = 0.5  # the last patch
    before, after = vit.features(x, causal=True).tokens, vit.features(spoilt, causal=True).tokens
    torch.testing.assert_close(before[:, :-1], after[:, :-1])
    assert not torch.allclose(before[:, -1], after[:, -1])
    assert not torch.allclose(vit.tokens(x)[:, :-1], vit.tokens(spoilt)[:, :-1])


@torch.no_grad()
def test_all_causal_tokens_see_so_many_first_patches(vit, x):
    last = x.clone()
    last[:, :, -vit.patch :, -vit.patch :] = 0.5
    n = vit.grid**2
    some, whole = (vit.features(y, causal=torch.tensor([1, n])).tokens for y in (x, last))
    torch.testing.assert_close(some[0, :-1], whole[0, :-1])  # one patch is seen by all, the last by itself
    torch.testing.assert_close(some[1], vit.tokens(x)[1])  # all patches are
    seen, unseen = (vit.features(x, causal=torch.tensor([k, n])).prefix[0] for k in (1, 0))
    assert not len(seen) or not torch.allclose(seen, unseen)


@torch.no_grad()
def test_causal_and_kept_under_bf16(vit, x):
    with torch.autocast("cpu", torch.bfloat16):
        assert vit.features(x, keep=torch.arange(3).expand(2, -1), causal=True).vector.isfinite().all()


@torch.no_grad()
def test_the_mean_of_patches_as_the_vector_is_kept(vit, x, tmp_path):
    if vit.net.global_pool == "token":
        vit.pool_patches()
    features = vit.features(x)
    if isinstance(vit.net.fc_norm, nn.Identity):  # else the norm follows the mean
        torch.testing.assert_close(features.vector, features.tokens.mean(1))
    vit.save(tmp_path)
    torch.testing.assert_close(load(tmp_path)(x), features.vector)


@torch.no_grad()
def test_layers_and_other_sizes(vit, x):
    features = vit.features(x, layers=(0, 1))
    assert [tuple(layer.shape) for layer in features.layers] == 2 * [
        (2, len(features.prefix[0]) + 64, vit.dim)
    ]
    last = vit.net.norm(features.layers[1])
    torch.testing.assert_close(vit.net.forward_head(last, pre_logits=True), features.vector)
    assert vit(x[..., :16, :16]).shape == (2, vit.dim)
    assert vit.maps(x[..., :16, :]).shape == (2, vit.dim, 16 // vit.patch, 32 // vit.patch)
    with pytest.raises(TapetumError, match=f"31 x 32 pixels do not divide into patches of {vit.patch}"):
        vit(x[..., :31, :])
    with pytest.raises(TapetumError, match="no block 2"):
        vit.features(x, layers=(2,))


def test_every_parameter_of_a_vit_learns_from_tokens_alone(vit, x):
    vit.tokens(x).square().sum().backward()
    idle = [name for name, p in vit.named_parameters() if p.grad is None]
    assert idle == []


@pytest.mark.parametrize("name, args, prefix", OTHERS.values(), ids=OTHERS.keys())
@torch.no_grad()
def test_other_families(name, args, prefix, x):
    encoder = build(name, 32, **args).eval()
    features = encoder.features(x)
    torch.testing.assert_close(features.vector, encoder.net(normalised(encoder, x)))
    assert encoder.dim == features.vector.shape[1]
    assert encoder.maps(x).shape[:2] == (2, encoder.net.num_features)
    assert encoder.gives("maps") and not encoder.gives("tokens")
    if prefix:
        assert features.prefix.shape[1:] == (*prefix, encoder.dim)
        assert encoder.tokens(x).shape[2] == encoder.dim
    else:
        with pytest.raises(TapetumError, match="gives no tokens; use a ViT"):
            encoder.tokens(x)
    for wrong in ({"keep": torch.zeros(2, 1, dtype=torch.long)}, {"causal": True}):
        with pytest.raises(TapetumError, match="no patches"):
            encoder.features(x, **wrong)
    with pytest.raises(TapetumError, match="single blocks"):
        encoder.features(x, layers=(0,))


def test_a_module_from_python(x, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
    encoder = Encoder.wrap(net, 32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert encoder.dim == 8
    torch.testing.assert_close(encoder.maps(x), net((x - 0.5) / 0.25))
    torch.testing.assert_close(encoder(x), encoder.maps(x).mean((2, 3)))
    flat = Encoder.wrap(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), 32)
    assert flat.dim == 5 and not flat.gives("maps")
    with pytest.raises(TapetumError, match="no feature maps"):
        flat.maps(x)
    with pytest.raises(TapetumError, match="does not take images of 31 pixels"):
        Encoder.wrap(flat.net, 31)
    encoder.save(tmp_path)
    with pytest.raises(TapetumError, match=r"Encoder\.wrap"):
        load(tmp_path)


def test_stems_and_patches_follow_the_image_size():
    def strides(encoder: Encoder, size: int) -> int:
        return size // encoder.net.layer1(first(encoder.net, size)).shape[-1]

    def first(net, size):
        return net.maxpool(net.act1(net.bn1(net.conv1(torch.zeros(1, 3, size, size)))))

    with torch.no_grad():
        assert strides(build("resnet18", 32).eval(), 32) == 1
        assert strides(build("resnet10_w32", 32).eval(), 32) == 2
        assert strides(build("resnet18", 64).eval(), 64) == 2
        assert strides(build("resnet18", 64, stem="full").eval(), 64) == 1
        deep = build("resnet18", 32, stem="full", stem_type="deep", stem_width=8).eval()
        assert strides(deep, 32) == strides(again(deep.spec).eval(), 32) == 1
        assert strides(build("resnet18", 128).eval(), 128) == 4
        assert strides(build("resnet18", 32, stem="timm").eval(), 32) == 4
    assert [build("vit_tiny_patch16_224", s, **SMALL).patch for s in (32, 64, 96, 112)] == [4, 8, 8, 16]
    assert build("vit_tiny_patch16_224", 32, **SMALL, patch_size=16).patch == 16


@pytest.mark.parametrize(
    "name, args, said",
    [
        ("resnet81", {}, "unknown encoder 'resnet81'; did you mean 'resnet18'"),
        ("resnet18", {"layer": 3}, "resnet18 takes no argument 'layer'"),
        ("vit_tiny_patch16_224", {"patch_size": 5}, "32 x 32 pixels do not divide into patches of 5"),
        ("resnet18", {"stem": "5x5/3"}, "no stem '5x5/3'"),
        ("vit_tiny_patch16_224", {**SMALL, "stem": "3x3/1"}, "no stem '3x3/1' for VisionTransformer"),
        ("resnet18", {"weights": "nowhere.safetensors"}, "there is no encoder nowhere.safetensors"),
        (
            "resnet18",
            {"weights": "package:nothing_of_this_name"},
            "no installed package 'nothing_of_this_name'",
        ),
    ],
)
def test_what_cannot_be_built_is_said_in_a_sentence(name, args, said):
    with pytest.raises(TapetumError, match=said):
        build(name, 32, **args)


def test_public_weights_that_cannot_be_had(monkeypatch):
    def offline(name, pretrained=False, **kwargs):
        if pretrained:
            raise ConnectionError("no route to host")
        return create(name, **kwargs)

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(TapetumError, match=r"public weights of resnet18.*ConnectionError: no route to host"):
        load("timm:resnet18")


def test_public_weights_without_a_network(monkeypatch, tmp_path):
    from huggingface_hub import constants

    with socket.socket() as free:  # a port where nobody listens
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("urllib.request.getproxies", dict)
        with pytest.raises(TapetumError, match="public weights of resnet18 cannot be had"):
            load("timm:resnet18")
    assert not constants.HF_HUB_OFFLINE, "the client is left as it was"


def test_a_copy_shares_nothing(vit, x):
    other = copy.deepcopy(vit)
    before = vit(x)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.add_(1)
    assert torch.equal(vit(x), before) and not torch.allclose(other(x), before)


def test_random_weights_are_the_same_each_time_and_leave_torch_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = load("random:resnet10_w32", image_size=32)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert load("random:resnet10_w32", image_size=32).digest() == one.digest()


def test_timms_undecayed_parameters_are_named():
    encoder = build("vit_tiny_patch16_224", 32, **SMALL)
    assert {"net.pos_embed", "net.cls_token"} <= encoder.no_weight_decay()
