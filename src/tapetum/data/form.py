"""The form in which images become numbers: how many channels, and which values are black and white."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from tapetum.base.errors import TapetumError

MAX_BYTES = 2**30  # no single image file in an archive is longer


class Damaged(TapetumError):
    """An image that cannot be read; `str(error)` is the reason in a few words."""


@dataclass(frozen=True)
class Form:
    """Chosen once, used in training and encoding alike, and stored with the encoder.

    Args:
        channels: 1 (luma), 3 (RGB), 4 (RGB and alpha), or as many as the images of an array have.
        levels: the values of deeper images (16 bits, floats) that become 0 and 255; what lies beyond is cut.
            None takes 0 to 65535 of 16 bits, [0, 1] of floats, and of 32 bits the smallest of the ranges 1,
            255, 65535 and their own that holds them.
    """

    channels: int = 3
    levels: tuple[float, float] | None = None

    def __post_init__(self):
        if self.channels < 1:
            raise TapetumError(f"channels is {self.channels}; images have at least 1.")
        if self.levels and not self.levels[0] < self.levels[1]:
            raise TapetumError(f"levels is {self.levels}; black is below white, as in 0,4095.")

    def of_image(self, image: Image.Image) -> np.ndarray:
        """A Pillow image of any mode -> uint8 [H, W, C]; transparent ones are laid on white for RGB and luma.
        Raises Damaged."""
        if image.mode.startswith("I") or image.mode == "F":
            image = Image.fromarray(self._of_values(np.asarray(image), image.mode))
        if self.channels == 4 and image.has_transparency_data:
            return np.array(image.convert("RGBA"))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        if self.channels not in (1, 3):
            raise Damaged(f"has {len(image.getbands())} channels, not {self.channels}")
        pixels = np.array(image.convert("L" if self.channels == 1 else "RGB"))
        return pixels[:, :, None] if self.channels == 1 else pixels

    def of_array(self, array: np.ndarray) -> np.ndarray:
        """[H, W] or [H, W, C] of any type -> uint8 [H, W, C]; floats lie in [0, 1] or `levels`.
        Raises Damaged."""
        if not array.size:
            raise Damaged("no pixels")
        array = self._of_deep(array)
        if array.ndim == 2:
            array = array[:, :, None]
        found = array.shape[2]
        if found == self.channels:
            return np.ascontiguousarray(array)
        if found == 1 and self.channels == 3:
            return np.repeat(array, 3, axis=2)
        if found not in (3, 4) or self.channels not in (1, 3):
            raise Damaged(f"has {found} channels, not {self.channels}; --channels {found} keeps them")
        return self.of_image(Image.fromarray(np.ascontiguousarray(array)))

    def _of_deep(self, array: np.ndarray) -> np.ndarray:
        """Values of any type -> uint8."""
        if array.dtype == np.uint8:
            return array
        if array.dtype == bool:
            return array.astype(np.uint8) * 255
        if self.levels and array.dtype.kind in "uif":
            return self._between(array, *self.levels)
        if array.dtype == np.uint16:
            return np.rint(array / 257.0).astype(np.uint8)
        if array.dtype.kind == "f":
            low, high = float(array.min()), float(array.max())
            if not (low >= -1e-6 and high <= 1 + 1e-6):  # also false for not-a-number
                raise Damaged(f"values from {low:.3g} to {high:.3g}; floats must lie in [0, 1] or --levels")
            return self._between(array, 0.0, 1.0)
        if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
            raise Damaged(f"values of type {array.dtype}; allowed: uint8, uint16, bool, or floats in [0, 1]")
        return array.astype(np.uint8)

    def _of_values(self, values: np.ndarray, mode: str) -> np.ndarray:
        """Deep grey values of a Pillow image -> uint8 [H, W]."""
        if self.levels:
            return self._between(values, *self.levels)
        values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
        low, high = min(values.min(), 0.0), values.max()
        if mode.startswith("I;16"):
            high = 65535.0
        elif low == 0.0:
            ranges = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
            high = next((top for top in ranges if high <= top), high)
        return self._between(values, low, high)

    @staticmethod
    def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
        values = np.nan_to_num(values.astype(np.float64), posinf=high, neginf=low, nan=low)
        return np.rint((values - low) * (255.0 / ((high - low) or 1.0))).clip(0, 255).astype(np.uint8)


RGB = Form()
