"""Real archives are read in place and come out as their description says."""

import numpy as np
import torch

from tapetum.data import open_data
from tapetum.data.canvas import Canvas


def test_cifar10(real):
    source = open_data(real("cifar10.zip"))
    assert len(source) == 60_000 and source.splits == ["train", "test"]
    assert source.classes[:3] == ["airplane", "automobile", "bird"]
    assert np.bincount(source.labels).tolist() == [6_000] * 10
    assert "60,000 images (32x32, sampled), 10 classes from folders, splits train/test" in source.summary()
    train, inside = open_data(source, split="train"), open_data(f"{real('cifar10.zip')}/train")
    assert train.paths == inside.paths and train.paths[4_999] == "airplane/4999.jpg"
    canvas = Canvas(train.take(range(0, 50_000, 500)), 32)
    pixels, sizes = canvas.fetch(torch.arange(100))
    np.testing.assert_array_equal(pixels[7].permute(1, 2, 0).numpy(), train.read(3_500))
    assert sizes.unique().tolist() == [32] and canvas.skipped == []


def test_clothing(real):
    source = open_data(real("clothing-160.zip"))
    assert (
        len(source) == 3_781
        and len(source.classes) == 10
        and source.splits == ["train", "validation", "test"]
    )
    assert min(source.size(100)) == 160 and source.read(100).shape[:2] == source.size(100)


def test_omniglot_alphabets(real):
    source = open_data(f"{real('omniglot-small.zip')}/images_background_small1")
    assert len(source.classes) == 5 and "Balinese" in source.classes and source.read(0).shape == (105, 105, 3)


def test_imagenet_samples_are_flat(real):
    source = open_data(real("imagenet-samples.zip"))
    assert len(source) == 250 and source.labels is None
    canvas = Canvas(source.take(range(20)), 64, 0, workers=0)
    assert canvas.fetch(torch.arange(20))[0].shape == (20, 3, 64, 64) and canvas.skipped == []
