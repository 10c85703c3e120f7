"""Attributions against captum's and against loops; what is taken away and what curves enclose, by hand."""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, Occlusion, Saliency
from torch import nn

from tapetum.measure import attribution

CELLS, SIDE = 3, 12
BLANK = torch.tensor([0.4, 0.5, 0.6])[:, None, None]


@pytest.fixture
def score():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(400, 1)).double().eval()
    return lambda images: net(images)[:, 0]


@pytest.fixture
def image():
    return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()


def summed(pixels: torch.Tensor) -> torch.Tensor:
    """[S, S] -> [G, G], written otherwise."""
    cell = SIDE // CELLS
    return pixels.reshape(CELLS, cell, CELLS, cell).sum((1, 3))


def test_gradients_are_captums(score, image):
    theirs = Saliency(score).attribute(image[None].clone().requires_grad_(), abs=True)[0].sum(0)
    assert torch.allclose(attribution.gradients(score, image, BLANK, CELLS), summed(theirs))


def test_integrated_gradients_are_captums_and_complete(score, image):
    ours = attribution.integrated(score, image, BLANK.double(), CELLS, steps=40)
    blank = BLANK.double().expand_as(image)
    theirs = IntegratedGradients(score).attribute(
        image[None], blank[None], n_steps=40, method="riemann_middle"
    )
    assert torch.allclose(ours, summed(theirs[0].sum(0)))
    assert ours.sum() == pytest.approx(float((score(image[None]) - score(blank[None])).detach()), rel=1e-3)


def test_occlusion_is_captums(score, image):
    ours = attribution.occlusion(score, image, BLANK.double(), CELLS)
    cell = (3, SIDE // CELLS, SIDE // CELLS)
    blank = BLANK.double().expand_as(image)[None]
    theirs = Occlusion(score).attribute(image[None], cell, cell, blank)[0, 0]
    theirs = theirs[:: cell[1], :: cell[2]].double()  # captum gives float32
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("side", [5, 7, 12])
def test_each_pixel_lies_in_one_cell_also_where_they_do_not_divide(side):
    pixels = torch.rand(side, side, dtype=torch.float64)
    by_hand = np.zeros((CELLS, CELLS))
    for i in range(side):
        for j in range(side):
            by_hand[i * CELLS // side, j * CELLS // side] += pixels[i, j]
    assert np.allclose(attribution.in_cells(pixels, CELLS), by_hand)
    hidden = torch.zeros(2, CELLS, CELLS, dtype=torch.bool)
    hidden[0, 0, 2] = hidden[1, 2, 1] = True
    images = torch.rand(2, 3, side, side)
    left = attribution.without(images, hidden, BLANK)
    for b in range(2):
        for i in range(side):
            for j in range(side):
                gone = hidden[b, i * CELLS // side, j * CELLS // side]
                assert torch.equal(left[b, :, i, j], BLANK[:, 0, 0] if gone else images[b, :, i, j])


def test_ranks_and_areas():
    relevance = torch.tensor([[0.1, 3.0], [2.0, 0.1]])
    assert attribution.ranks(relevance).tolist() == [[2, 0], [1, 3]]
    assert attribution.area(torch.tensor([1.0, 0.5, 0.0])) == 0.5
    assert attribution.area(torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])).tolist() == [0.25, 1.0]
