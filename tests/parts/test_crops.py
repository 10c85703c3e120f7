"""Crops of one size go through the encoder together."""

import pytest
import torch

from small_methods import prepared


@pytest.mark.parametrize("name", ["swav", "deepclusterv2", "dino", "ibot", "dinov2", "msn"])
def test_crops_of_one_size_are_encoded_at_once(name):
    method, batch = prepared(name, small_crops=3)
    first = next(part for part in method.encoder.modules() if isinstance(part, torch.nn.Conv2d))
    counts = []
    first.register_forward_hook(lambda _, x, y: counts.append(len(x[0])))
    method.loss(batch, 0.5)
    assert counts == [16 if name == "msn" else 32, 48]


@pytest.mark.parametrize("name", ["swav", "deepclusterv2", "dino", "ibot", "dinov2", "msn"])
def test_there_may_be_no_small_crops(name):
    method, batch = prepared(name, small_crops=0)
    assert method.loss(batch, 0.5)["loss"].isfinite()
