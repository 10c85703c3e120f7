"""Sparse convolution by zeros: nothing hidden is seen, batch norm counts what is shown, all else stays."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tapetum import encoders
from tapetum.base.errors import TapetumError
from tapetum.parts.sparse import enlarged, last_map, pyramid, sparse
from tapetum.parts.unet import UNetDecoder

NETS = {
    "resnet": ("resnet10_w32", {"channels": (8, 16, 32, 64)}),
    "resnetd": ("resnet18d", {"layers": (1, 1, 1, 1), "channels": (8, 16, 32, 64), "stem": "timm"}),
    "byob": ("resnet32_w64", {}),
    "convnext": ("convnext_mini", {"dims": (8, 16, 24, 32)}),
}


@pytest.fixture(params=NETS)
def encoder(request):
    torch.manual_seed(0)
    name, args = NETS[request.param]
    return encoders.build(name, 64, **args).double()


def images(count=3, side=64):
    return torch.rand(count, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def some_shown(grid, count=3):
    """Half of the places, each image its own."""
    order = torch.rand(count, grid**2, generator=torch.Generator().manual_seed(2)).argsort(1)
    return (order < grid**2 // 2).view(count, 1, grid, grid)


def maps(encoder, x, shown):
    with sparse(encoder.net, shown):
        return encoder.maps(x)


def test_what_is_hidden_is_never_seen(encoder):
    encoder.train()
    grid = last_map(encoder)[1]
    shown, x = some_shown(grid), images()
    other = torch.where(enlarged(shown, 64), x, torch.rand_like(x))
    one, two = (maps(encoder, y, shown) for y in (x, other))
    torch.testing.assert_close(one * shown, two * shown)
    assert not torch.allclose(encoder.maps(x), encoder.maps(other))


def test_with_nothing_hidden_it_is_the_dense_net(encoder):
    x, shown = images(), torch.ones(3, 1, last_map(encoder)[1], last_map(encoder)[1], dtype=torch.bool)
    for mode in (False, True):
        encoder.train(mode)
        before = {name: value.clone() for name, value in encoder.state_dict().items()}
        after, gradients = [], []
        for dense in (True, False):
            encoder.load_state_dict(before)
            encoder.zero_grad()
            y = encoder.maps(x) if dense else maps(encoder, x, shown)
            y.square().sum().backward()
            gradients.append({n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None})
            after.append({"maps": y.detach(), **{n: v.clone() for n, v in encoder.state_dict().items()}})
        torch.testing.assert_close(*after)
        torch.testing.assert_close(*gradients)


def test_it_is_zero_at_every_layer_that_spreads(encoder):
    """Convolutions and pools are given zeros where nothing is shown; what stands there cannot spread."""
    shown = some_shown(last_map(encoder)[1])
    given = []
    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    with sparse(encoder.net, shown):
        for module in encoder.net.modules():
            if isinstance(module, kinds):  # after sparse's own hooks
                module.register_forward_pre_hook(lambda _, args: given.append(args[0]))
        encoder.train().maps(images())
    assert len(given) > 5
    for x in given:
        if x.shape[-1] >= shown.shape[-1]:
            hidden = ~enlarged(shown, x.shape[-1]).expand_as(x)
            assert (x[hidden] == 0).all() and (x[~hidden] != 0).any()


def test_a_slow_writing_of_a_small_net():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3, padding=1),
    ).double()
    x, shown = images(2, 8), some_shown(2, 2)
    there = {side: shown.repeat_interleave(side // 2, 2).repeat_interleave(side // 2, 3) for side in (8, 4)}
    y = net[0](x * there[8]) * there[8]  # sparse convolution: computed where shown, empty elsewhere
    values = y.movedim(1, 3)[there[8][:, 0]]  # [n, 4]
    norm = (values - values.mean(0)) / (values.var(0, unbiased=False) + 1e-5).sqrt()
    y = torch.zeros_like(y).movedim(1, 3).masked_scatter(there[8][:, 0, ..., None], norm).movedim(3, 1)
    y = F.max_pool2d(y.clamp(min=0), 2)
    want = net[4](y * there[4])
    with sparse(net, shown):
        torch.testing.assert_close(net(x) * there[4], want * there[4])


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_is_of_shown_places(momentum):
    x, shown = images(4, 8).requires_grad_(), some_shown(4, 4)
    where = enlarged(shown, 8)[:, 0]
    norms = [kind(3, momentum=momentum).double() for kind in (nn.BatchNorm2d, nn.BatchNorm1d)]
    for norm in norms:
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(0))
        nn.init.normal_(norm.bias, generator=torch.Generator().manual_seed(0))
    with sparse(norms[0], shown):
        y = norms[0](x)
    want = norms[1](x.movedim(1, 3)[where])  # [n, 3]: ordinary batch norm over the shown places
    torch.testing.assert_close(y.movedim(1, 3)[where], want)
    assert (y.movedim(1, 3)[~where] == 0).all()
    torch.testing.assert_close(norms[0].state_dict(), norms[1].state_dict())
    weight = torch.rand_like(want)
    for a, b in zip(
        torch.autograd.grad((y.movedim(1, 3)[where] * weight).sum(), (x, *norms[0].parameters())),
        torch.autograd.grad((want * weight).sum(), (x, *norms[1].parameters())),
    ):
        torch.testing.assert_close(a, b)
    norms[0].eval()
    with sparse(norms[0], shown):
        torch.testing.assert_close(norms[0](x), norms[1].eval()(x.flatten(2)).view_as(x) * enlarged(shown, 8))


def test_nothing_is_left_behind(encoder):
    names = list(encoder.state_dict())
    x, shown = images(), some_shown(last_map(encoder)[1])
    before = encoder.eval()(x)
    with pytest.raises(ZeroDivisionError), sparse(encoder.net, shown):
        assert list(encoder.state_dict()) == names
        1 / 0  # noqa: B018
    assert not any(m._forward_pre_hooks or "forward" in vars(m) for m in encoder.modules())
    torch.testing.assert_close(encoder(x), before)


def test_bf16(encoder):
    with torch.autocast("cpu", torch.bfloat16):
        y = maps(encoder.float().train(), images().float(), some_shown(last_map(encoder)[1]))
    assert y.isfinite().all()


def test_stages(encoder):
    grid = last_map(encoder)[1]
    shapes = list(pyramid(encoder).values())
    assert [shape[1] for shape in shapes] == [grid * 2**i for i in range(len(shapes))] and len(shapes) > 2
    assert shapes[0] == encoder.maps(images())[0].shape
    assert len(pyramid(encoder, most=2)) == 2


@pytest.mark.parametrize(
    "name, size, args, said",
    [
        ("vit_tiny_patch16_224", 32, {"depth": 1}, "has attention; only ConvNets"),
        ("swin_tiny_patch4_window7_224", 64, {"depths": (1, 1)}, "has attention; only ConvNets"),
        ("resnet18", 32, {"stem": "timm"}, "leaves one place"),
        ("resnet10_w32", 36, {}, "maps of 5 places a side are no multiple of the last, of 3"),
        ("resnet50_gn", 64, {"layers": (1, 1, 1, 1)}, "GroupNorm, which mixes places"),
        ("convnextv2_atto", 64, {"depths": (1, 1, 1, 1)}, "GlobalResponseNorm, which mixes places"),
        ("regnety_002", 64, {}, "SEModule, which mixes places"),
        ("efficientnet_b0", 64, {}, "SqueezeExcite, which mixes places"),
        ("resnest14d", 128, {}, "has attention; only ConvNets"),
    ],
)
def test_networks_and_images_that_do_not_fit(name, size, args, said):
    with pytest.raises(TapetumError, match=said):
        last_map(encoders.build(name, size, **args))


def test_networks_without_stages():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8))
    encoder = encoders.Encoder.wrap(net, 32)
    assert last_map(encoder) == (8, 16, 16)
    with pytest.raises(TapetumError, match="does not say where its stages end"):
        pyramid(encoder)


def test_the_decoder_fills_what_is_empty():
    torch.manual_seed(0)
    shapes = [torch.Size((6, 2, 2)), torch.Size((5, 4, 4)), torch.Size((4, 16, 16))]
    decoder = UNetDecoder(shapes, 16, 32, out=3).eval()
    assert list(decoder.enter) == ["2", "4"]  # a map as large as the image does not enter
    given = [torch.randn(2, *shape) for shape in shapes]
    shown = some_shown(2, 2)
    painted = decoder(given, shown)
    assert painted.shape == (2, 3, 16, 16)
    spoilt = [torch.where(enlarged(shown, y.shape[-1]), y, 9.0) for y in given]
    torch.testing.assert_close(decoder(spoilt, shown), painted)
    with torch.no_grad():
        decoder.blank["4"].add_(1.0)
    assert not torch.allclose(decoder(given, shown), painted)
    with pytest.raises(TapetumError, match="3 places a side does not lead to images of 16 pixels"):
        UNetDecoder([torch.Size((6, 3, 3))], 16, 32, out=3)
