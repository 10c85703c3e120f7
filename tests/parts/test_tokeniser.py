"""The tokeniser: its codes, their gradient, that it draws with many of them; and its convolutions."""

import math

import torch
from torch.nn import functional as F

from tapetum.parts import tokeniser as tokenising
from tapetum.parts.gridnet import GridNet
from tapetum.parts.predictors import patchify
from tapetum.parts.tokeniser import Tokeniser, rounded, share_used
from tapetum.train import sandbox

LEVELS = (5, 4, 3)


def small() -> Tokeniser:
    torch.manual_seed(0)
    return Tokeniser(3, 8, 32, 2, LEVELS)


def test_digits_are_whole_and_each_value_is_there():
    z = torch.linspace(-9, 9, 4001)[:, None].expand(-1, 3)
    digits = rounded(z, torch.tensor(LEVELS))
    for column, levels in zip(digits.T, LEVELS):
        assert column.unique().tolist() == list(range(levels))


def test_the_gradient_is_that_before_rounding():
    z = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    rounded(z, torch.tensor(LEVELS)).sum().backward()
    for row, gradient in zip(z.tolist(), z.grad.tolist()):
        for value, got, levels in zip(row, gradient, LEVELS):
            s = 1 / (1 + math.exp(-value))
            assert math.isclose(got, (levels - 1) * s * (1 - s), rel_tol=1e-12)


def test_codes_number_the_digits_and_can_be_drawn_again():
    tokeniser, x = small(), torch.rand(4, 3, 32, 32)
    patches, codes = tokeniser(x)
    assert codes.shape == (4, 16) and tokeniser.count == 60
    assert codes.min() >= 0 and codes.max() < 60
    assert torch.equal(tokeniser.codes(x), codes)
    torch.testing.assert_close(tokeniser.drawn(codes), patches)
    z = tokeniser.down(4 * patchify(x, 8) - 2)[2, 5]
    digits = [round((levels - 1) / (1 + math.exp(-v))) for v, levels in zip(z.tolist(), LEVELS)]
    assert codes[2, 5] == digits[0] + 5 * digits[1] + 20 * digits[2]


def test_it_learns_to_draw_with_many_codes():
    tokeniser, x = small(), sandbox.easy_pixels(32).float() / 255
    wanted = patchify(x, 8)
    optimizer = torch.optim.AdamW(tokeniser.parameters(), lr=5e-3)
    for _ in range(60):
        loss = F.mse_loss(tokeniser(x)[0], wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    plain = F.mse_loss(wanted.mean((0, 1)).expand_as(wanted), wanted)  # the best without any code
    assert loss < 0.5 * plain
    assert share_used(tokeniser.codes(x), tokeniser.count) > 0.15


def test_the_share_of_codes_in_use():
    assert math.isclose(float(share_used(torch.arange(12).view(3, 4), 12)), 1, rel_tol=1e-6)
    assert math.isclose(float(share_used(torch.full((3, 4), 7), 12)), 1 / 12, rel_tol=1e-6)
    uneven = share_used(torch.tensor([[0, 1, 1, 1]]), 4)
    assert math.isclose(float(uneven), 1 / 4 / (0.25**0.25 * 0.75**0.75), rel_tol=1e-6)


def test_the_share_of_codes_in_use_is_that_of_all_processes(monkeypatch):
    here, elsewhere = torch.tensor([[0, 1, 1, 5]]), torch.tensor([[3, 3, 5, 5]])
    want = share_used(torch.cat([here, elsewhere]), 6)
    monkeypatch.setattr(tokenising, "total", lambda x: x + elsewhere.flatten().bincount(minlength=6))
    torch.testing.assert_close(share_used(here, 6), want)


def test_grid_net_convolves_over_the_grid():
    torch.manual_seed(1)
    net = GridNet(4, 8, 2, 5, groups=16).double()
    x = torch.randn(2, 9, 4, dtype=torch.float64)
    want = x
    for layer, groups in zip(net.layers, (4, 8)):
        per = want.shape[-1] // groups  # channels that a group reads
        y = torch.zeros(2, 9, 8, dtype=torch.float64)
        for at in range(9):
            for o in range(8):
                first = o // (8 // groups) * per
                y[:, at, o] = layer.bias[o]
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        row, column = at // 3 + dy, at % 3 + dx
                        if 0 <= row < 3 and 0 <= column < 3:
                            seen = want[:, 3 * row + column, first : first + per]
                            y[:, at, o] += seen @ layer.weight[o, :, dy + 1, dx + 1]
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        y = y * (1 + torch.erf(y / math.sqrt(2))) / 2
        want = want + y if want.shape == y.shape else y
    torch.testing.assert_close(net(x), want @ net.leave.weight.T + net.leave.bias)
