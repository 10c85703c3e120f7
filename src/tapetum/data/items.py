"""Map-style data sets from Python (torch's, or anything with a length and items) as sources."""

import os
import threading
from typing import Any

import numpy as np
from PIL import Image

from tapetum.base.console import Progress
from tapetum.base.errors import TapetumError
from tapetum.data.arrays import IMAGES, LABELS, channels_first_of, numbered
from tapetum.data.decode import Damaged, decode_sized
from tapetum.data.form import RGB, Form
from tapetum.data.labels import with_values
from tapetum.data.source import Source
from tapetum.data.stores import Store


class Items(Store):
    """Items of a map-style data set, read one at a time since few of them are made for threads."""

    def __init__(self, items: Any):
        self.items = items
        self._lock = threading.Lock()

    def __getstate__(self) -> Any:
        return self.items

    def __setstate__(self, items: Any) -> None:
        self.__init__(items)  # type: ignore[misc]

    def read(
        self, key: int, max_pixels: int, at_least: int = 0, form: Form | None = RGB
    ) -> tuple[np.ndarray, tuple[int, int]]:
        try:
            with self._lock:
                image, _ = parts_of(self.items[key])
            return _image(image, max_pixels, at_least, form)
        except TapetumError as error:  # Damaged, or a sentence that becomes the reason
            raise error if isinstance(error, Damaged) else Damaged(str(error)) from error
        except Exception as error:
            raise Damaged(f"the data set failed: {type(error).__name__}: {str(error)[:80]}") from error

    def size(self, key: int) -> tuple[int, int]:
        return self.read(key, 2**31, form=None)[1]

    def content(self, key: int) -> bytes:
        pixels, size = self.read(key, 2**31, form=None)
        return pixels.tobytes() + repr(size).encode()


def _image(
    image: Any, max_pixels: int, at_least: int, form: Form | None
) -> tuple[np.ndarray, tuple[int, int]]:
    """A Pillow image, array, tensor, path or encoded bytes -> pixels and size; without a form all channels
    that an array has."""
    if isinstance(image, str | bytes | os.PathLike):
        return decode_sized(image, max_pixels, at_least, form or RGB)
    if isinstance(image, Image.Image):
        pixels = (form or RGB).of_image(image)
    else:
        array = np.asarray(image)
        first = channels_first_of(array.shape, type(image).__module__.startswith("torch"))
        array = array.transpose(1, 2, 0) if first else array
        form = form or Form(array.shape[2] if array.ndim == 3 else 1)
        pixels = form.of_array(array)
    return pixels, pixels.shape[:2]


def parts_of(item: Any) -> tuple[Any, Any]:
    """(image, label or None) of an item: a tuple, a dictionary, or the image alone."""
    if isinstance(item, dict):
        lower = {str(name).lower(): value for name, value in item.items()}
        image = next(
            (lower[n] for n in ("image", "img", "pixel_values", *IMAGES, "pixels") if n in lower), None
        )
        if image is None:
            raise TapetumError(f"an item has no image; its keys: {', '.join(map(repr, item))}")
        return image, next((lower[n] for n in (*LABELS, "class") if n in lower), None)
    if isinstance(item, tuple | list):
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def open_items(items: Any) -> Source:
    """A data set; labels from its `targets` or `labels` where it has them, else from its items."""
    name, count = type(items).__name__, len(items)
    if not count:
        raise TapetumError(f"the data set {name} is empty.")
    source = Source(name, Items(items), range(count), numbered(count))
    values, classes = _targets(items)
    if values is None:
        try:
            first = parts_of(items[0])[1]
        except TapetumError as error:
            raise TapetumError(f"the data set {name} cannot be used: {error}.") from error
        except Exception:  # a damaged first image; the others may still have labels
            first = None
        if first is None or not _is_class(first):
            return source
        values = []
        with Progress(count, "reading labels") as progress:
            for i in range(count):
                values.append(_label(items, i))
                progress.advance()
    return with_values(source, values, f"labels of {name}", classes)


def _targets(items: Any) -> tuple[Any, list[str] | None]:
    """(label of every item, class names), each None where unknown, without reading an item."""
    if hasattr(items, "indices") and hasattr(items, "dataset"):  # torch.utils.data.Subset
        values, classes = _targets(items.dataset)
        return (None if values is None else np.asarray(values)[list(items.indices)]), classes
    if isinstance(features := getattr(items, "features", None), dict):  # Hugging Face
        name = next((name for name in LABELS if name in features), None)
        return (list(items[name]), getattr(features[name], "names", None)) if name else (None, None)
    for attribute in ("targets", "labels"):
        values = getattr(items, attribute, None)
        if values is not None and not callable(values) and np.shape(values) == (len(items),):
            classes = getattr(items, "classes", None)
            named = isinstance(classes, list | tuple) and np.asarray(values).dtype.kind in "iu"
            return np.asarray(values), [str(c) for c in classes] if named and classes else None
    return None, None


def _is_class(value: Any) -> bool:
    return isinstance(value, int | str | np.integer) or (np.shape(value) == () and hasattr(value, "item"))


def _label(items: Any, i: int) -> Any:
    try:
        value = parts_of(items[i])[1]
        return -1 if value is None else value.item() if hasattr(value, "item") else value
    except Exception:  # a damaged image has no label
        return -1
