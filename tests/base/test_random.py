"""Random numbers are a function of what they are for: reproducible, even, and independent."""

import numpy as np
import pytest
import torch
from scipy import stats

from tapetum.base import random

INDEX = torch.arange(5000)


def test_a_number_depends_on_nothing_but_what_it_is_for():
    whole = random.uniform(3, 7, INDEX, "crop", (4,))
    mixed = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    torch.rand(3)  # no global generator takes part
    parts = [random.uniform(3, 7, part, "crop", (4,)) for part in mixed.split(37)]
    assert torch.equal(torch.cat(parts), whole[mixed])
    assert torch.equal(random.uniform(3, 7, INDEX, "crop", (2, 2)), whole.view(5000, 2, 2))
    assert torch.equal(random.uniform(3, 7, INDEX, "crop", (2,)), whole[:, :2])  # more slots change no other


def test_the_numbers_are_the_same_everywhere_and_always():
    found = random.uniform(0, 0, torch.arange(3), "crop").tolist()
    assert found == [0.6282274723052979, 0.4230525493621826, 0.3438376784324646]
    assert random.order(0, 0, 8).tolist() == [2, 0, 1, 7, 5, 4, 6, 3]


@pytest.mark.parametrize("shape", [(), (1,), (3, 2)])
def test_shapes_and_range(shape):
    u = random.uniform(0, 0, INDEX, "x", shape)
    assert u.shape == (5000, *shape) and u.dtype == torch.float32 and u.min() >= 0 and u.max() < 1
    assert random.uniform(0, 0, INDEX[:0], "x", shape).shape == (0, *shape)


def test_the_numbers_are_even():
    """Kolmogorov and Smirnov's distance stays below its 0.1 % point, for images, slots, epochs and seeds."""
    samples = {
        "images": random.uniform(0, 0, INDEX, "x"),
        "slots": random.uniform(0, 0, INDEX[:1], "x", (5000,)).flatten(),
        "epochs": torch.cat([random.uniform(0, epoch, INDEX[:1], "x") for epoch in range(5000)]),
        "seeds": torch.cat([random.uniform(seed, 0, INDEX[:1], "x") for seed in range(5000)]),
        "repeats": random.uniform(0, 0, INDEX * 0, "x", repeat=INDEX),
        "far images": random.uniform(0, 0, INDEX * 2**40 + 2**62, "x"),
    }
    for name, sample in samples.items():
        u = np.sort(sample.double().numpy())
        distance = max(np.abs(np.arange(1, 5001) / 5000 - u).max(), np.abs(np.arange(5000) / 5000 - u).max())
        assert distance < 1.95 / 5000**0.5, name


def test_the_numbers_are_independent():
    """What differs in one thing correlates no more than chance has it: 5 sigma of 5000."""
    at = {"seed": 0, "epoch": 0, "index": INDEX, "name": "x", "repeat": 0}
    changes = {
        "seed": 1,
        "epoch": 1,
        "index": INDEX + 1,
        "name": "y",
        "repeat": 1,
    }
    u = random.uniform(**at)
    for name, value in changes.items():
        v = random.uniform(**{**at, name: value})
        assert abs(np.corrcoef(u, v)[0, 1]) < 5 / 5000**0.5, name
    slots = random.uniform(**at, shape=(8,))
    correlations = np.corrcoef(slots.T.numpy()) - np.eye(8)
    assert np.abs(correlations).max() < 5 / 5000**0.5


def test_an_order_is_a_permutation_that_changes():
    orders = {(s, e): random.order(s, e, 1000) for s in range(3) for e in range(3)}
    for order in orders.values():
        assert torch.equal(order.sort().values, torch.arange(1000))
        assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 5 / 1000**0.5
    assert len({tuple(order.tolist()) for order in orders.values()}) == 9
    assert torch.equal(orders[1, 2], random.order(1, 2, 1000))
    assert random.order(0, 0, 0).tolist() == [] and random.order(0, 0, 1).tolist() == [0]


def test_keys_give_any_number_of_numbers_of_their_own():
    key = random.key(random.uniform(0, 0, INDEX, "x", (2,)))
    assert len(key.unique()) == 5000
    u = random.more(key, (40,))
    assert torch.equal(random.more(key[7:8], (40,)), u[7:8])
    assert torch.equal(random.more(key, (4, 10)).flatten(1), u)
    correlations = np.corrcoef(u.T.numpy()) - np.eye(40)
    assert np.abs(correlations).max() < 5 / 5000**0.5
    assert abs(float(u.mean()) - 0.5) < 0.005 and u.min() >= 0 and u.max() < 1


def test_normal_numbers_are_normal_and_independent():
    x = random.normal(random.key(random.uniform(0, 0, INDEX, "x", (2,))), (20,))
    for sample in (x[:, 0], x[:, 19], x[3:260].flatten()):
        assert stats.kstest(sample.double().numpy(), "norm").pvalue > 1e-3
    correlations = np.corrcoef(x.T.numpy()) - np.eye(20)
    assert np.abs(correlations).max() < 5 / 5000**0.5 and torch.isfinite(x).all()


def test_all_devices_scramble_alike():
    x = torch.cat([INDEX, -INDEX, INDEX * 2**50, torch.tensor([2**63 - 1, -(2**63)])])
    assert torch.equal(random._scramble(x), random._scramble_anywhere(x))
