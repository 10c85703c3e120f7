"""From images as people have them to the pixels that an encoder takes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tapetum.base.errors import TapetumError
from tapetum.data.decode import decode
from tapetum.data.form import RGB, Form
from tapetum.encoders.spec import Spec


def normalised(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Pixels [B, C, H, W] minus the mean [C, 1, 1], over the standard deviation [C, 1, 1].

    Where channels lie last in a CPU's memory, rows of W C numbers are taken at once: many times as fast as
    threes.
    """
    if x.device.type != "cpu" or x.stride(1) != 1 or not x.is_contiguous(memory_format=torch.channels_last):
        return (x - mean) / std
    rows = x.permute(0, 2, 3, 1).flatten(2)  # [B, H, W C]
    scale, shift = (1 / std).flatten().repeat(x.shape[3]), (-mean / std).flatten().repeat(x.shape[3])
    return torch.addcmul(shift, rows, scale).unflatten(2, (-1, x.shape[1])).permute(0, 3, 1, 2)


def prepare(pixels: np.ndarray, spec: Spec, true: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 [H, W, C] -> uint8 [C, S, S] as the encoder's spec says: resized with antialiasing, made square.

    Pixels that have the right size already pass bit for bit. `true` is the (height, width) of an image that
    was squashed into these pixels.
    """
    true = true or pixels.shape[:2]  # type: ignore[assignment]
    squashed = true[0] * pixels.shape[1] != true[1] * pixels.shape[0] and spec.fit != "squash"
    if squashed or not fits(pixels.shape[:2], spec):
        pixels = _square(pixels, true, spec)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def fits(size: tuple[int, ...], spec: Spec) -> bool:
    """Whether images of this height and width need neither resizing nor cropping."""
    return tuple(size) == (spec.image_size, spec.image_size) and (spec.fit != "crop" or spec.crop_pct == 1)


def _square(pixels: np.ndarray, true: tuple[int, int], spec: Spec) -> np.ndarray:
    if pixels.shape[2] not in (1, 3):  # Pillow knows no others; each channel by itself is the same
        return np.concatenate(
            [_square(pixels[:, :, c : c + 1], true, spec) for c in range(pixels.shape[2])], 2
        )
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(_squared(image, true, spec)).reshape(spec.image_size, spec.image_size, -1)


def prepare_mask(classes: np.ndarray, spec: Spec, outside: int) -> np.ndarray:
    """uint8 [H, W] of class numbers -> uint8 [S, S], as `prepare` places an image of that size.

    Each pixel takes the class that lies below its middle; what is padded is `outside`.
    """
    if fits(classes.shape, spec):
        return classes
    how = Image.Resampling.NEAREST
    return np.array(_squared(Image.fromarray(classes), classes.shape, spec, how, outside))  # type: ignore[arg-type]


def _squared(
    image: Image.Image,
    true: tuple[int, int],
    spec: Spec,
    how: Image.Resampling | None = None,
    outside: int = 0,
) -> Image.Image:
    how = how if how is not None else Image.Resampling[spec.interpolation.upper()]
    (height, width), size = true, spec.image_size
    if spec.fit == "squash":
        return image.resize((size, size), how)
    if spec.fit == "crop":
        side = min(width, height) * spec.crop_pct
        left, top = (width - side) / 2, (height - side) / 2
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, (left + side) * across, (top + side) * down)
        return image.resize((size, size), how, box=box)
    scale = size / max(width, height)
    small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), how)
    out = Image.new(image.mode, (size, size), outside)
    out.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return out


def pixels_of(image: Any, form: Form = RGB) -> np.ndarray:
    """A path, PIL image, array or tensor, uint8 or in [0, 1] -> uint8 [H, W, C] in this form.

    Raises Damaged for a file that cannot be read, TapetumError for what is no image.
    """
    if isinstance(image, str | Path):
        return decode(Path(image), form=form)
    if isinstance(image, Image.Image):
        return form.of_image(ImageOps.exif_transpose(image))
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise TapetumError(
            f"an image has the shape [H, W, C], [C, H, W] or [H, W]; this has {list(array.shape)}."
        )
    if _channels_first(array.shape, form):
        array = array.transpose(1, 2, 0)
    if array.shape[2] not in {1, 3, form.channels}:
        counts = " or ".join(map(str, sorted({1, 3, form.channels})))
        raise TapetumError(f"an image has {counts} channels; this one has the shape {list(array.shape)}.")
    if form.levels is None and array.dtype != np.uint8:
        array = (_unit_range(array) * 255).round().astype(np.uint8)
    return form.of_array(array)


def _channels_first(shape: Sequence[int], form: Form) -> bool:
    """[..., C, H, W] rather than [..., H, W, C]."""
    counts = {1, 3, form.channels}
    return shape[-3] in counts and shape[-1] not in counts


def _unit_range(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "f" or not (values.min() >= 0 and values.max() <= 1):
        found = f"{values.dtype} from {values.min()} to {values.max()}"
        raise TapetumError(f"pixels are uint8, or floats in [0, 1]; these are {found}.")
    return values


def as_list(images: Any, form: Form = RGB) -> tuple[Any, bool]:
    """One image or many as a sequence, and whether it was one."""
    if isinstance(images, str | Path | Image.Image):
        return [images], True
    if not isinstance(images, Tensor | np.ndarray):
        return list(images), False
    counts = {1, 3, form.channels}
    one = images.ndim == 2 or (images.ndim == 3 and (images.shape[-1] in counts or images.shape[0] in counts))
    return ([images], True) if one else (images, False)


def batches(images: Sequence[Any], spec: Spec, size: int, errors: str) -> Iterator[tuple[Tensor, list[int]]]:
    """Portions of prepared images, float32 [B, 3, S, S] in [0, 1], each with the places of its images.

    Those that cannot be read are raised as TapetumError, or with errors="nan" left out.
    """
    for start in range(0, len(images), size):
        part = images[start : start + size]
        if isinstance(part, Tensor | np.ndarray) and (ready := _as_they_are(part, spec)) is not None:
            yield ready, list(range(start, start + len(part)))
            continue
        pixels, at = [], []
        for i, image in enumerate(part, start):
            try:
                pixels.append(torch.from_numpy(prepare(pixels_of(image, spec.form), spec)))
                at.append(i)
            except TapetumError as error:
                if errors == "raise":
                    raise TapetumError(f"image {i}{_named(image)} cannot be read: {error}") from error
        if pixels:
            yield torch.stack(pixels).float() / 255, at


def _named(image: Any) -> str:
    return f" ({image})" if isinstance(image, str | Path) else ""


def _as_they_are(images: Tensor | np.ndarray, spec: Spec) -> Tensor | None:
    """A whole batch that has the encoder's size already, floats unrounded; None for any other."""
    x = torch.as_tensor(images)
    if x.ndim != 4 or 0 in x.shape:
        return None
    x = x if _channels_first(x.shape, spec.form) else x.movedim(-1, 1)
    if x.shape[1] != spec.form.channels or spec.levels or not fits(x.shape[2:], spec):
        return None
    if x.dtype == torch.uint8:
        return x.float() / 255
    good = x.is_floating_point() and bool((x >= 0).all() and (x <= 1).all())
    return x.float() if good else None  # what is wrong is said image by image
