"""Resizes single images on the way to batches, antialiased."""

import numpy as np


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, C] -> [*size, C] of any number of channels; an image of just that size as it is.

    By torch, which does it in 8 bits with triangle weights like Pillow, four to five times as fast, in the
    calling thread alone. The two differ by 0.03 levels in the mean and 2 at most.
    """
    if pixels.shape[:2] == tuple(size):
        return pixels
    import torch
    from torch.nn.functional import interpolate

    own = pixels if pixels.flags.writeable else pixels.copy()  # torch warns of others
    x = torch.from_numpy(own).permute(2, 0, 1)[None]  # [1, C, H, W], channels last in memory
    return interpolate(x, size=size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
