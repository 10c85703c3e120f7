"""Colours in Lab against scikit-image, their bins, and the weights of rare ones against the formulas."""

import math

import numpy as np
import torch
from skimage.color import rgb2lab

from tapetum.parts.lab import colours, lab, rarity, soft_colours, weighted_cross_entropy


def test_lab_is_scikit_images():
    x = torch.rand(3, 3, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0, :, 0, :4] = torch.tensor([0.0, 1.0, 0.003, 0.0404])  # black, white, and where both curves are lines
    np.testing.assert_allclose(lab(x).movedim(1, -1), rgb2lab(x.movedim(1, -1).numpy()), atol=1e-6)


def test_lab_has_the_same_bits_in_any_batch_and_full_precision_under_autocast():
    x = torch.rand(5, 3, 7, 7, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lab(x), torch.cat([lab(one[None]) for one in x]))
        assert lab(x).dtype == torch.float32


def test_bins_hold_every_colour_and_nothing_else():
    middles = colours(10.0)
    assert len(middles) == 260
    ours = {tuple(b) for b in (middles / 10).round().int().tolist()}
    line = np.linspace(0, 1, 52)
    cube = np.stack(np.meshgrid(line, line, line), -1).reshape(-1, 3)
    shown = {tuple(b) for b in np.rint(rgb2lab(cube)[:, 1:] / 10).astype(int).tolist()}
    assert ours == shown
    others = np.random.default_rng(0).uniform(0, 1, (50_000, 3))
    assert {tuple(b) for b in np.rint(rgb2lab(others)[:, 1:] / 10).astype(int).tolist()} <= ours


def test_soft_colours_are_gaussian_shares_of_the_nearest():
    generator = torch.Generator().manual_seed(2)
    ab = 40 * torch.randn(6, 2, generator=generator, dtype=torch.float64)
    middles = colours(10.0)
    got = soft_colours(ab, middles, 5, 5.0)
    for i, (a, b) in enumerate(ab.tolist()):
        gaps = [(a - x) ** 2 + (b - y) ** 2 for x, y in middles.tolist()]
        near = sorted(range(len(gaps)), key=lambda q: gaps[q])[:5]
        total = sum(math.exp(-gaps[q] / 50) for q in near)
        want = [math.exp(-gaps[q] / 50) / total if q in near else 0.0 for q in range(len(gaps))]
        torch.testing.assert_close(got[i], torch.tensor(want, dtype=torch.float64))


def test_rare_colours_weigh_more_and_the_mean_weight_is_one():
    frequency = torch.tensor([0.7, 0.2, 0.1, 0.0], dtype=torch.float64)
    got = rarity(frequency, 0.5)
    raw = [1 / (0.5 * p + 0.5 / 4) for p in frequency.tolist()]
    mean = sum(p * w for p, w in zip(frequency.tolist(), raw))
    torch.testing.assert_close(got, torch.tensor([w / mean for w in raw], dtype=torch.float64))
    torch.testing.assert_close(rarity(frequency, 1.0), torch.ones(4, dtype=torch.float64))


def test_weighted_cross_entropy():
    generator = torch.Generator().manual_seed(3)
    logits, weight = torch.randn(4, 6, generator=generator), torch.rand(4, generator=generator)
    target = torch.rand(4, 6, generator=generator).softmax(1)
    total = 0.0
    for i in range(4):
        norm = sum(math.exp(v) for v in logits[i].tolist())
        total -= float(weight[i]) * sum(
            float(target[i, q]) * math.log(math.exp(float(logits[i, q])) / norm) for q in range(6)
        )
    assert math.isclose(float(weighted_cross_entropy(logits, target, weight)), total / 4, rel_tol=1e-5)
