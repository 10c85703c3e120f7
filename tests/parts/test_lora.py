"""Low-rank adapters against their formula written out slowly, and against the library peft."""

import copy

import pytest
import torch
from torch import nn

from tapetum.base.errors import TapetumError
from tapetum.encoders import build
from tapetum.parts import lora


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"vit_mini": {"depth": 2}, "eva02_tiny_patch14_224": {"depth": 2, "patch_size": 8}}
    net = build(name, 32, **sizes.get(name, {})).net.double().eval()
    for p in net.parameters():
        if not p.any():  # a new ResNet's branches give nothing
            nn.init.normal_(p, std=0.5)
    return net


def learnt(net: nn.Module) -> None:
    """Give the adapters weights as if they had been trained."""
    for module in net.modules():
        if isinstance(module, lora.LowRank):
            nn.init.normal_(module.up, std=0.1)


NETS = ("vit_mini", "resnet10_w32", "convnext_mini", "tf_efficientnet_lite0", "eva02_tiny_patch14_224")


@pytest.mark.parametrize("name", NETS)
def test_it_begins_as_the_network_and_merges_without_a_change(name):
    net, x = network(name), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    before, names = net(x), [n for n, _ in net.named_parameters()]
    changed = lora.attach(net, 4)
    torch.testing.assert_close(net(x), before, rtol=0, atol=1e-12)
    learnt(net)
    apart = net(x)
    assert (apart - before).abs().max() > 1e-3
    lora.merge(net)
    torch.testing.assert_close(net(x), apart)
    assert [n for n, _ in net.named_parameters()] == names and len(changed) > 2
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("name", NETS)
def test_adapters_alone_learn_and_all_of_them_do(name):
    net = network(name)
    names = lora.attach(net, 4)
    learnt(net)
    net(torch.randn(2, 3, 32, 32, dtype=torch.float64)).square().sum().backward()
    learning = {n for n, p in net.named_parameters() if p.requires_grad}
    assert learning == {f"{name}.{part}" for name in names for part in ("up", "down")}
    assert all(p.grad.abs().sum() > 0 for p in net.parameters() if p.requires_grad)


def test_a_linear_layer_follows_the_formula():
    layer = nn.Linear(12, 10).double()
    net = nn.Sequential(layer)
    lora.attach(net, rank=2, alpha=6)
    learnt(net)
    a, b = net[0].down, net[0].up
    x = torch.randn(5, 12, dtype=torch.float64)
    for row, out in zip(x, net(x)):
        for o in range(10):
            low = [sum(a[r, i] * row[i] for i in range(12)) for r in range(2)]
            want = sum(layer.weight[o, i] * row[i] for i in range(12)) + layer.bias[o]
            want = want + 6 / 2 * sum(b[o, r] * low[r] for r in range(2))
            torch.testing.assert_close(out[o], want)


def test_a_convolution_is_the_convolution_by_the_summed_weight():
    layer = nn.Conv2d(6, 8, 3, stride=2, padding=1, dilation=2, padding_mode="circular").double()
    net = nn.Sequential(layer)
    lora.attach(net, rank=3, alpha=3)
    learnt(net)
    x, whole = torch.randn(2, 6, 9, 9, dtype=torch.float64), copy.deepcopy(layer)
    with torch.no_grad():
        for o, i, h, w in [
            (o, i, h, w) for o in range(8) for i in range(6) for h in range(3) for w in range(3)
        ]:
            whole.weight[o, i, h, w] += sum(net[0].up[o, r] * net[0].down[r, i, h, w] for r in range(3))
    torch.testing.assert_close(net(x), whole(x))


def test_peft_agrees():
    peft = pytest.importorskip("peft")
    ours, theirs = network("vit_mini"), network("vit_mini")
    lora.attach(ours, rank=4, alpha=10, pattern=r"attn\.(qkv|proj)$")
    learnt(ours)
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(r=4, lora_alpha=10, target_modules=["qkv", "proj"]))
    given = {}
    for name, module in ours.named_modules():
        if isinstance(module, lora.LowRank):
            given[f"base_model.model.{name}.lora_A.default.weight"] = module.down.detach()
            given[f"base_model.model.{name}.lora_B.default.weight"] = module.up.detach()
    missing = theirs.load_state_dict(given, strict=False)
    assert not missing.unexpected_keys
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs.double()(x))
    lora.merge(ours)
    merged = dict(theirs.merge_and_unload().named_parameters())
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight, merged[name])


def test_what_is_grouped_small_or_not_named_stays():
    net = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Linear(4, 4), nn.Linear(16, 16), nn.Linear(16, 16))
    assert lora.attach(net, 2, pattern="[012]") == ["2"]
    with pytest.raises(TapetumError, match="merge them first"):
        lora.attach(net, 2)
    lora.merge(net)
    with pytest.raises(TapetumError, match=r"matches 'qvk'; they are 2, 3\."):
        lora.attach(net, 2, pattern="qvk")
    with pytest.raises(TapetumError, match="no regular expression"):
        lora.attach(net, 2, pattern="(")
