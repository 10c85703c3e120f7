"""Histograms of gradients against scikit-image's."""

import math

import numpy as np
import pytest
import torch
from skimage import feature

from tapetum.parts.hog import hog


def images(kind: str) -> torch.Tensor:
    """Images [3, 2, 32, 48] in float64; of whole grey levels, neighbours are often equal."""
    rng = np.random.default_rng(0)
    x = rng.random((3, 2, 32, 48))
    return torch.from_numpy(x if kind == "smooth" else (x * 6).round() / 6)


@pytest.mark.parametrize("kind", ["smooth", "levels"])
@pytest.mark.parametrize(("cell", "bins"), [(8, 9), (4, 6), (2, 9)])
def test_hog_is_scikit_images(kind, cell, bins):
    x = images(kind)
    found = hog(x, cell, bins)
    assert found.shape == (3, 2, bins, 32 // cell, 48 // cell)
    for i, image in enumerate(x.numpy()):
        for c, channel in enumerate(image):
            theirs = feature.hog(
                channel, bins, (cell, cell), (1, 1), block_norm="L2", feature_vector=False
            )  # [H, W, 1, 1, bins]
            want = theirs[:, :, 0, 0].transpose(2, 0, 1)
            np.testing.assert_allclose(found[i, c].numpy(), want, atol=2e-6)  # it counts in float32


@pytest.mark.parametrize("kind", ["smooth", "levels"])
def test_hog_pixel_by_pixel(kind):
    x = images(kind)[0, 0, :16, :16]
    want = torch.zeros(9, 2, 2, dtype=torch.float64)
    for row in range(16):
        for column in range(16):
            down = float(x[row + 1, column] - x[row - 1, column]) if 0 < row < 15 else 0.0
            across = float(x[row, column + 1] - x[row, column - 1]) if 0 < column < 15 else 0.0
            angle = math.degrees(math.atan2(down, across)) % 180
            want[int(angle // 20) % 9, row // 8, column // 8] += math.hypot(down, across) / 64
    for row in range(2):
        for column in range(2):
            want[:, row, column] /= math.sqrt(float(want[:, row, column].square().sum()) + 1e-10)
    torch.testing.assert_close(hog(x[None, None], 8)[0, 0], want, rtol=1e-9, atol=1e-12)


def test_an_edge_votes_for_its_direction_whichever_side_is_bright():
    x = torch.zeros(1, 1, 8, 8)
    x[..., 4:] = 1.0
    for image in (x, 1 - x):
        assert hog(image, 8)[0, 0, :, 0, 0].tolist() == pytest.approx([1] + 8 * [0])
    upright = hog(x.mT, 8)[0, 0, :, 0, 0]  # 90 degrees, in the fifth of nine bins
    assert upright.argmax() == 4 and upright[4] == pytest.approx(1)


def test_contrast_does_not_count_and_flat_cells_are_zero():
    x = images("smooth")
    torch.testing.assert_close(hog(0.1 * x + 0.3, 8), hog(x, 8), rtol=1e-6, atol=1e-9)
    assert (hog(torch.full((1, 3, 16, 16), 0.7), 8) == 0).all()
