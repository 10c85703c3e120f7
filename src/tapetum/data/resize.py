"""Resizes single images on the way to batches, antialiased."""

import numpy as np
from PIL import Image


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, C] -> [*size, C]; Pillow knows 1 and 3 channels, others go one by one."""
    if pixels.shape[2] not in (1, 3):
        return np.concatenate([resized(pixels[:, :, c : c + 1], size) for c in range(pixels.shape[2])], 2)
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image = image.resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(image).reshape(*size, -1)
