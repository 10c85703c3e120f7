"""From images as people have them to the pixels that an encoder takes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tapetum.base.errors import TapetumError
from tapetum.data.decode import Damaged, decode
from tapetum.encoders.spec import Spec

RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def prepare(pixels: np.ndarray, spec: Spec) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [3, S, S] as the encoder's spec says: resized with antialiasing, made square.

    Pixels that have the right size already pass bit for bit.
    """
    size = spec.image_size
    if pixels.shape[:2] != (size, size) or spec.crop_pct != 1:
        pixels = np.asarray(_square(Image.fromarray(pixels), size, spec))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _square(image: Image.Image, size: int, spec: Spec) -> Image.Image:
    how = RESAMPLE[spec.interpolation]
    width, height = image.size
    if spec.fit == "squash":
        return image.resize((size, size), how)
    if spec.fit == "crop":
        side = min(width, height) * spec.crop_pct
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize((size, size), how, box=(left, top, left + side, top + side))
    scale = size / max(width, height)
    small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), how)
    out = Image.new("RGB", (size, size))
    out.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return out


def pixels_of(image: Any) -> np.ndarray:
    """A path, PIL image, array or tensor, grey or in colour, uint8 or in [0, 1] -> uint8 [H, W, 3].

    Raises Damaged for a file that cannot be read, TapetumError for what is no image.
    """
    if isinstance(image, str | Path):
        return decode(Path(image))
    if isinstance(image, Image.Image):
        return np.array(image.convert("RGB"))
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3:
        raise TapetumError(f"an image has the shape [H, W, C], [C, H, W] or [H, W]; this one has {list(array.shape)}.")
    if array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.shape[2] not in (1, 3):
        raise TapetumError(f"an image has 1 or 3 channels; this one has the shape {list(array.shape)}.")
    if array.dtype != np.uint8:
        if array.dtype.kind != "f" or array.min() < 0 or array.max() > 1:
            raise TapetumError(
                f"pixels are uint8, or floats in [0, 1]; these are {array.dtype} from {array.min()} to {array.max()}."
            )
        array = (array * 255).round().astype(np.uint8)
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array


def as_list(images: Any) -> tuple[Sequence[Any], bool]:
    """One image or many as a sequence, and whether it was one."""
    if isinstance(images, str | Path | Image.Image):
        return [images], True
    if isinstance(images, Tensor | np.ndarray) and images.ndim in (2, 3):
        return [images], True
    return images, False


def batches(images: Sequence[Any], spec: Spec, size: int, errors: str) -> Iterator[tuple[Tensor, list[int]]]:
    """Portions of prepared images [B, 3, S, S] uint8, each with the places of its images; unreadable ones are
    raised, or with errors="nan" left out."""
    for start in range(0, len(images), size):
        ready, at = [], []
        for i in range(start, min(start + size, len(images))):
            try:
                ready.append(torch.from_numpy(prepare(pixels_of(images[i]), spec)))
                at.append(i)
            except (Damaged, TapetumError, OSError) as error:
                if errors == "raise":
                    raise TapetumError(f"image {i} ({str(images[i])[:200]}) cannot be read: {error}") from error
        if ready:
            yield torch.stack(ready), at
