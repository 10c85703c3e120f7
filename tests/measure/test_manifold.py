"""Paths in feature space against slow writings and closed forms; the attack against its limits."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from tapetum.measure import manifold


def on_circle(degrees):
    """A path [1, T + 1, 2] through these angles, its places of different length."""
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.double))
    radius = torch.linspace(1, 3, len(degrees), dtype=torch.double)
    return (radius * torch.stack([angle.cos(), angle.sin()])).T[None]


def chord(degrees):
    return 2 * np.sin(np.deg2rad(degrees) / 2)


def test_even_steps_are_their_distance():
    lengths = manifold.steps(on_circle([0, 10, 20, 30]))
    np.testing.assert_allclose(lengths, [3 * [chord(10)]])
    assert float(manifold.unsteadiness(lengths)) == pytest.approx(0, abs=1e-12)
    assert float(manifold.rmqm(lengths)) == pytest.approx(3 * chord(10))


def test_uneven_steps_count_less():
    lengths = manifold.steps(on_circle([0, 5, 25, 30]))
    a, b = chord(5), chord(20)
    unsteady = (b - a) / ((2 * a + b) / 3)
    assert float(manifold.unsteadiness(lengths)) == pytest.approx(unsteady)
    assert float(manifold.rmqm(lengths)) == pytest.approx((2 * a + b) / (1 + unsteady))
    jump = torch.tensor([[0.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(manifold.unsteadiness(jump), torch.tensor([4 / 3, 8 / 3, 0]))
    torch.testing.assert_close(manifold.rmqm(jump), torch.tensor([3 / 7, 3 / 11, 0]))


def test_measures_equal_a_slow_writing():
    path = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    lengths = manifold.steps(path)
    for i, places in enumerate(path.numpy()):
        unit = [z / np.linalg.norm(z) for z in places]
        step = [np.linalg.norm(b - a) for a, b in pairwise(unit)]
        change = np.mean([abs(b - a) for a, b in pairwise(step)]) / np.mean(step)
        assert float(manifold.moved(lengths)[i]) == pytest.approx(sum(step))
        assert float(manifold.unsteadiness(lengths)[i]) == pytest.approx(change)
        assert float(manifold.rmqm(lengths)[i]) == pytest.approx(sum(step) / (1 + change))


def test_a_collapsed_encoder_does_not_move():
    assert manifold.rmqm(manifold.steps(torch.ones(3, 4, 8))).eq(0).all()


def test_the_attack_moves_further_than_noise_and_stays_in_its_limits():
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(3 * 8 * 8, 16, generator=g)

    def encoder(x):
        return torch.tanh(x.flatten(1) @ weight)

    images, noise = torch.rand(6, 3, 8, 8, generator=g), 2 * torch.rand(6, 3, 8, 8, generator=g) - 1
    with torch.inference_mode():
        kept = images.clone()
    for epsilon in (0.02, 0.1):
        attacked = manifold.pgd(encoder, images, epsilon, noise)
        assert (attacked - images).abs().max() <= epsilon + 1e-6
        assert attacked.min() >= 0 and attacked.max() <= 1
        noisy = (images + epsilon * noise).clamp(0, 1)
        far, near = (manifold.steps(torch.stack([encoder(images), encoder(x)], 1)) for x in (attacked, noisy))
        assert (far > 1.5 * near).all()
        assert not attacked.requires_grad
    torch.testing.assert_close(images, kept)
