"""Noise: Gaussian, shot, impulse, and speckle. arXiv:1903.12261

Each function takes pixels uint8 [H, W, 3], the numbers that `STRENGTHS` names for it, and random numbers.
"""

import numpy as np

from tapetum.views.corruptions.numbers import Numbers

STRENGTHS = {
    "gaussian_noise": {
        "imagenet": (0.08, 0.12, 0.18, 0.26, 0.38),
        "cifar": (0.04, 0.06, 0.08, 0.09, 0.10),
    },
    "shot_noise": {"imagenet": (60, 25, 12, 5, 3), "cifar": (500, 250, 100, 75, 50)},
    "impulse_noise": {"imagenet": (0.03, 0.06, 0.09, 0.17, 0.27), "cifar": (0.01, 0.02, 0.03, 0.05, 0.07)},
    "speckle_noise": {"imagenet": (0.15, 0.2, 0.35, 0.45, 0.6), "cifar": (0.06, 0.1, 0.12, 0.16, 0.2)},
}


def gaussian_noise(x: np.ndarray, draws: Numbers, scale: float) -> np.ndarray:
    """Normal noise of a standard deviation of `scale` of the range."""
    return (x / 255 + draws.normal(scale=scale, size=x.shape)) * 255


def shot_noise(x: np.ndarray, draws: Numbers, photons: float) -> np.ndarray:
    """Poisson counts where white is `photons`."""
    return draws.poisson(x / 255 * photons) / photons * 255


def impulse_noise(x: np.ndarray, draws: Numbers, share: float) -> np.ndarray:
    """A `share` of all values become 0 or 255."""
    hit, salt = draws.random(x.shape) <= share, draws.random(x.shape) <= 0.5
    return np.where(hit, np.where(salt, 255, 0), x)


def speckle_noise(x: np.ndarray, draws: Numbers, scale: float) -> np.ndarray:
    """Normal noise in proportion to the values."""
    return (x / 255) * (1 + draws.normal(scale=scale, size=x.shape)) * 255
