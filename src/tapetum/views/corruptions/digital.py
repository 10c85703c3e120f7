"""Digital changes: brightness, contrast, saturation, elastic warps, pixels, JPEG. arXiv:1903.12261"""

import io

import numpy as np
from PIL import Image

from tapetum.views.corruptions.numbers import Numbers
from tapetum.views.corruptions.sampling import at_places, gaussian, grid

STRENGTHS = {
    "brightness": {"imagenet": (0.1, 0.2, 0.3, 0.4, 0.5), "cifar": (0.05, 0.1, 0.15, 0.2, 0.3)},
    "contrast": {"imagenet": (0.4, 0.3, 0.2, 0.1, 0.05), "cifar": (0.75, 0.5, 0.4, 0.3, 0.15)},
    "elastic_transform": {  # in shares of the side: Gaussian, way of a pixel before it, way of three corners
        "imagenet": tuple((0.01, 1.25 * f, 0.0) for f in (0.05, 0.065, 0.085, 0.1, 0.12)),
        "cifar": ((0, 0, 0.08), (0.2, 0.05, 0.07), (0.06, 0.08, 0.06), (0.04, 0.1, 0.05), (0.03, 0.1, 0.03)),
    },
    "pixelate": {"imagenet": (0.6, 0.5, 0.4, 0.3, 0.25), "cifar": (0.95, 0.9, 0.85, 0.75, 0.65)},
    "jpeg_compression": {"imagenet": (25, 18, 15, 10, 7), "cifar": (80, 65, 58, 50, 40)},
    "saturate": {
        "imagenet": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
        "cifar": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    },
}


def brightness(x: np.ndarray, draws: Numbers, more: float) -> np.ndarray:
    """The value of HSV, raised by `more`."""
    hue, saturation, value = hsv(x / 255)
    return rgb(hue, saturation, (value + more).clip(0, 1)) * 255


def contrast(x: np.ndarray, draws: Numbers, share: float) -> np.ndarray:
    """Only a `share` of what each channel differs from its mean over the image."""
    x = x / 255
    mean = x.mean((0, 1))
    return ((x - mean) * share + mean) * 255


def saturate(x: np.ndarray, draws: Numbers, times: float, plus: float) -> np.ndarray:
    """The saturation of HSV, `times` it and `plus`."""
    hue, saturation, value = hsv(x / 255)
    return rgb(hue, (saturation * times + plus).clip(0, 1), value) * 255


def hsv(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RGB in [0, 1] [..., 3] -> hue in turns, saturation and value [...]."""
    red, green, blue = np.moveaxis(x, -1, 0)
    value, spread = x.max(-1), np.ptp(x, -1)
    safe = np.where(spread > 0, spread, 1)
    hue = np.where(red == value, (green - blue) / safe, 0)
    hue = np.where(green == value, 2 + (blue - red) / safe, hue)
    hue = np.where(blue == value, 4 + (red - green) / safe, hue)
    hue = np.where(spread > 0, hue / 6 % 1, 0)
    return hue, np.where(spread > 0, spread / np.where(value > 0, value, 1), 0), value


def rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Hue in turns, saturation and value [...] -> RGB in [0, 1] [..., 3]."""
    away = (hue[..., None] * 6 + np.array([5.0, 3.0, 1.0])) % 6  # in sixths of a turn
    return value[..., None] * (1 - saturation[..., None] * np.minimum(away, 4 - away).clip(0, 1))


def elastic_transform(x: np.ndarray, draws: Numbers, smooth: float, way: float, corners: float) -> np.ndarray:
    """Each pixel moved by noise that is smoothed, and with `corners` three points of the middle moved first.

    The first as in the package imagecorruptions (ImageNet-C itself has stronger affine moves, which belong to
    images of its size alone), the second as in CIFAR-10-C.
    """
    pixels = x / 255
    h, w = x.shape[:2]
    if corners:
        pixels = _affine(pixels, draws, corners * h)
    right, down = (
        gaussian(draws.uniform(-1, 1, size=(h, w)), (smooth * h, smooth * w), truncate=3, outside="mirror")
        for _ in range(2)
    )
    row, column = grid(x.shape)
    return at_places(pixels, row + down * way * h, column + right * way * h, "mirror") * 255


def _affine(x: np.ndarray, draws: Numbers, most: float) -> np.ndarray:
    """Three points about the middle, each moved by up to `most` pixels along both axes, and all else with
    them."""
    h, w = x.shape[:2]
    middle, arm = np.array([h // 2, w // 2], np.float64), min(h, w) // 3
    points = np.array([middle + arm, middle + np.array([arm, -arm]), middle - arm])  # x, y
    moved = points + draws.uniform(-most, most, size=points.shape)
    back = np.linalg.solve(np.column_stack([moved, np.ones(3)]), points)  # [3, 2]: (x, y, 1) -> x, y
    row, column = grid(x.shape)
    source = np.stack([column, row, np.ones_like(row)], -1) @ back
    return at_places(x, source[..., 1], source[..., 0], "reflect")


def pixelate(x: np.ndarray, draws: Numbers, share: float) -> np.ndarray:
    """Made smaller by means over boxes, and larger again by repeating pixels."""
    h, w = x.shape[:2]
    small = Image.fromarray(x).resize((max(1, int(w * share)), max(1, int(h * share))), Image.Resampling.BOX)
    return np.asarray(small.resize((w, h), Image.Resampling.NEAREST))


def jpeg_compression(x: np.ndarray, draws: Numbers, quality: int) -> np.ndarray:
    """As a JPEG of this quality."""
    file = io.BytesIO()
    Image.fromarray(x).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
