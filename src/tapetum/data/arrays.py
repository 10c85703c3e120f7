"""Images that are arrays already: .npz and .npy files, arrays and tensors."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tapetum.base.errors import TapetumError
from tapetum.base.npz import check_npz
from tapetum.data.decode import Damaged, one_line
from tapetum.data.far import Far
from tapetum.data.form import RGB, Form
from tapetum.data.labels import with_values
from tapetum.data.source import Source
from tapetum.data.stores import Store

IMAGES = ("images", "image", "x", "data", "arr_0")
LABELS = ("labels", "label", "y", "targets", "target", "arr_1")
_CHANNELS = (1, 3, 4)


class Arrays(Store):
    """Rows of an array; a key is the row."""

    def __init__(self, array: np.ndarray, channels_first: bool):
        self.array, self.channels_first = array, channels_first
        count = 1 if array.ndim == 3 else array.shape[1 if channels_first else 3]
        self.channels = None if count in _CHANNELS else count

    def _row(self, key: int) -> np.ndarray:
        return self.array[key].transpose(1, 2, 0) if self.channels_first else self.array[key]

    def read(
        self, key: int, max_pixels: int, at_least: int = 0, form: Form = RGB
    ) -> tuple[np.ndarray, tuple[int, int]]:
        pixels = form.of_array(self._row(key))
        return pixels, pixels.shape[:2]

    def size(self, key: int) -> tuple[int, int]:
        height, width = self.array.shape[2:4] if self.channels_first else self.array.shape[1:3]
        return height, width

    def content(self, key: int) -> bytes:
        row = np.ascontiguousarray(self._row(key))
        if row.dtype != np.uint16:  # whose levels are not known here
            with contextlib.suppress(Damaged):
                pixels = Form(row.shape[2] if row.ndim == 3 else 1).of_array(row)
                return pixels.tobytes() + repr(self.size(key)).encode()
        return row.tobytes() + repr((row.shape, row.dtype.str)).encode()


def channels_first_of(shape: Sequence[int], tensor: bool = False) -> bool:
    """Whether [C, H, W] rather than [H, W, C] or [H, W]; raises TapetumError for other shapes."""
    if len(shape) == 2:
        return False
    if len(shape) != 3:
        raise TapetumError(f"an image of shape {list(shape)} is neither [H, W], [H, W, C] nor [C, H, W]")
    usual = shape[0] in _CHANNELS, shape[2] in _CHANNELS
    if usual[0] != usual[1]:
        return usual[0]
    first, last = shape[0] < min(shape[1:]), shape[2] < min(shape[:2])  # fewer channels than pixels
    if not any(usual) and first == last:
        raise TapetumError(
            f"an image of shape {list(shape)} does not say which of its axes are channels; "
            "it must have fewer of them than rows and columns"
        )
    return tensor if all(usual) else first


def open_array(name: str, images: Any) -> Source:
    """An array or tensor [N, H, W, C], [N, C, H, W] or [N, H, W], uint8 or float in [0, 1]."""
    tensor = type(images).__module__.startswith("torch")
    array = images.detach().cpu().numpy() if tensor else np.asarray(images)
    if array.dtype.kind not in "uifb" or array.ndim not in (3, 4) or not array.size:
        raise TapetumError(
            f"an array of shape {list(array.shape)} and type {array.dtype} holds no images; "
            "allowed: [N, H, W, C], [N, C, H, W] or [N, H, W] of uint8 or floats in [0, 1]."
        )
    store = Arrays(array, channels_first_of(array.shape[1:], tensor))
    try:
        store.read(0, 2**31, form=Form(store.channels or 3))
    except Damaged as error:
        raise TapetumError(f"{name} holds no images: {error}.") from error
    return Source(name, store, range(len(array)), numbered(len(array)))


def numbered(count: int) -> list[str]:
    """Names for images that have none."""
    return [f"{i:06d}" for i in range(count)]


def open_npz(path: Path | Far) -> Source:
    """An .npz with images and perhaps labels, also with 'train_images', 'x_test' and the like; or an .npy."""
    try:
        mapped = "r" if path.suffix == ".npy" and isinstance(path, Path) else None
        opened: Any = path.open("rb") if isinstance(path, Far) else path
        members = check_npz(opened)
        if isinstance(path, Far):
            opened.seek(0)
        loaded = np.load(opened, allow_pickle=False, mmap_mode=mapped)  # type: ignore[arg-type]
        arrays = {"images": loaded} if isinstance(loaded, np.ndarray) else {n: loaded[n] for n in members}
    except TapetumError:
        raise
    except Exception as error:  # whatever the bytes of a stranger make a parser raise
        why = (
            "it holds Python objects, which are never unpickled"
            if "pickle" in str(error)
            else one_line(error)
        )
        raise TapetumError(f"{path} cannot be read as arrays: {why}.") from error
    found = {
        s: pair for s in ("", "train", "val", "validation", "valid", "test") if (pair := _pair(arrays, s))
    }
    if not found:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in list(arrays.items())[:12])
        raise TapetumError(f"{path} has no array called 'images' (or x, image, data); it holds: {shapes}.")
    if "" in found:
        images, labels = found[""]
        source = open_array(path.name, images)
        return source if labels is None else with_values(source, labels, f"labels in {path.name}")
    sets = list(found.values())
    if len({images.shape[1:] for images, _ in sets}) > 1:
        raise TapetumError(f"the splits in {path} have images of different shapes.")
    source = open_array(path.name, np.concatenate([images for images, _ in sets]))
    names = [{"val": "validation", "valid": "validation"}.get(s, s) for s in found]
    source.split_of = [name for name, (images, _) in zip(names, sets) for _ in images]
    source.paths = [f"{name}/{p}" for name, (images, _) in zip(names, sets) for p in numbered(len(images))]
    if all(labels is None for _, labels in sets):
        return source
    values = [np.full(len(images), -1) if y is None else np.asarray(y) for images, y in sets]
    try:
        joined = np.concatenate([v.reshape(len(images), -1) for v, (images, _) in zip(values, sets)])
    except (ValueError, TypeError) as error:
        raise TapetumError(f"the labels in {path} do not fit its images: {one_line(error)}.") from error
    return with_values(source, joined, f"labels in {path.name}")


def _pair(arrays: dict[str, np.ndarray], split: str) -> tuple[np.ndarray, np.ndarray | None] | None:
    """The images of one split, with its labels where there are some."""
    lower = {name.lower(): array for name, array in arrays.items()}

    def find(names: Sequence[str]) -> np.ndarray | None:
        spelt = [form for n in names for form in ((f"{split}_{n}", f"{n}_{split}") if split else (n,))]
        return next((lower[name] for name in spelt if name in lower), None)

    images = find(IMAGES)
    return None if images is None or images.ndim < 3 else (images, find(LABELS))
