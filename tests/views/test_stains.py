"""Colour statistics and stains against scikit-image, and their definitions."""

import numpy as np
import pytest
import torch

from tapetum import views as V
from tapetum.base import random
from tapetum.views.stains import _lab, recoloured, stained
from view_tools import photos

color = pytest.importorskip("skimage.color")


def test_an_image_gets_the_means_and_spreads_of_another():
    x, style = photos(4).float() / 255 * 0.4 + 0.3, photos(4, seed=1).float() / 255 * 0.3 + 0.2
    out = recoloured(x, style)
    a, b = _lab(out), _lab(style)
    assert torch.allclose(a.mean((2, 3)), b.mean((2, 3)), atol=1e-3)
    assert torch.allclose(a.std((2, 3)), b.std((2, 3)), atol=1e-3)
    assert (out - x).abs().mean() > 0.05
    assert torch.allclose(recoloured(x, x), x, atol=1e-4)
    flat = torch.full_like(x, 0.5)
    assert torch.isfinite(recoloured(flat, style)).all()  # nothing to spread


def test_stains_equal_scikit_image():
    x = photos(3).float() / 255
    times = torch.tensor([[1.1, 0.8, 1.0], [1, 1, 1], [0.9, 1.2, 1.3]])
    plus = torch.tensor([[0.02, -0.05, 0.1], [0, 0, 0], [-0.01, 0.03, 0.0]])
    got = stained(x, times, plus)
    for i in range(3):
        hed = np.log(x[i].permute(1, 2, 0).numpy().clip(1e-6)) / np.log(1e-6) @ color.hed_from_rgb
        hed = hed * times[i].numpy() + plus[i].numpy()
        want = color.hed2rgb(hed)
        assert np.allclose(got[i].permute(1, 2, 0), want, atol=1e-3)
    assert torch.allclose(got[1], x[1].clamp(min=1e-6), atol=1e-3)
    assert not torch.allclose(got[0], x[0], atol=0.02)


def test_the_operation_changes_amounts_within_its_strength():
    x = photos(200, 16).float() / 255 * 0.3 + 0.1  # nothing reaches white
    step = V.Stain(0.02, 1.0)
    index = torch.arange(200)
    given = step.draw(random.uniform(0, 0, index, "x", (step.SLOTS,)), torch.full((200, 2), 16), 16)
    out = step.change(x, given)
    hed = [np.log(part.permute(0, 2, 3, 1).numpy()) / np.log(1e-6) @ color.hed_from_rgb for part in (x, out)]
    changes = []
    for before, after in zip(*hed):
        for stain in range(3):
            times, plus = np.polyfit(before[..., stain].ravel(), after[..., stain].ravel(), 1)
            changes.append((times - 1, plus))
    changes = np.array(changes)
    assert np.abs(changes).max() < 0.02002
    assert np.abs(changes).mean(0) == pytest.approx([0.01, 0.01], abs=0.001), "spread evenly"
    assert abs(np.corrcoef(changes.T)[0, 1]) < 0.12
