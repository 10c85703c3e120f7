"""Which class each pixel of an image is of: mask images, or text files with boxes and polygons (YOLO)."""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from tapetum.base.errors import TapetumError
from tapetum.data import listing
from tapetum.data.decode import MAX_PIXELS
from tapetum.data.open import on_disk
from tapetum.data.place import place as place_of

IGNORED = 255  # pixels that are of no class or of one that is not known
IMAGES, TEXTS = (".png", ".bmp", ".tif", ".tiff", ".gif"), (".txt",)  # nothing that loses digits
MODES = ("1", "L", "P", "I", "I;16")

Size = tuple[int, int]  # height and width


class Masks:
    """The annotation of images, found by the images' paths.

    Args:
        path: a folder, archive, or folder in an archive (`coco128.zip/semantic_segmentation/masks`). It holds
            images whose values are the classes' numbers, 0 to 254 (255 = ignored; a palette's colours mean
            nothing), or a text file for each image, with a line for each object: its class and then its box
            (`3 0.5 0.5 0.2 0.1`: centre, width, height) or the corners of a polygon (`3 0.1 0.1 0.2 0.1 0.2
            0.3`), in shares of the image's width and height. Pixels of no object are of class 0, those of
            objects of class c of class c + 1; where objects overlap the smaller lies on top.

    Raises TapetumError where there are no such files.
    """

    def __init__(self, path: str | Path):
        self.name = str(path)
        place, inner = on_disk(place_of(path))
        found = listing.folder(place) if place.is_dir() else listing.archive(place)
        self._store = found.store
        files = [e for e in listing.below(found, inner) if not e.problem]
        kinds = [_suffix(e.path) for e in files]
        self._wanted = IMAGES if any(kind in IMAGES for kind in kinds) else TEXTS
        self._keys = {_stem(e.path): (e.path, e.key) for e, kind in zip(files, kinds) if kind in self._wanted}
        if not self._keys:
            raise TapetumError(
                f"{path} holds no annotation: masks end in {', '.join(IMAGES)}, boxes and polygons in .txt."
            )
        names = Counter(PurePosixPath(stem).name for stem in self._keys)
        self._by_name = {PurePosixPath(s).name: s for s in self._keys if names[PurePosixPath(s).name] == 1}

    def has(self, path: str) -> bool:
        """Whether there is annotation for the image of this path."""
        return self._find(path) is not None

    def read(self, path: str, size: Size) -> np.ndarray:
        """uint8 [H, W], the class of each pixel, for the image of this path and size.

        Raises TapetumError where there is no annotation (`has`), or it does not fit the image.
        """
        if (stem := self._find(path)) is None:
            raise TapetumError(f"{self.name} has no annotation for {path}.")
        file, key = self._keys[stem]
        content = self._store.content(key)
        where = f"{file} in {self.name}"
        return (_drawn if self._wanted == TEXTS else _mask)(content, size, where)

    def digest(self, paths: Iterable[str]) -> str:
        """16 hex digits that name the annotation of these images."""
        whole = hashlib.blake2b(digest_size=8)
        for path in paths:
            stem = self._find(path)
            content = self._store.content(self._keys[stem][1]) if stem else b""
            whole.update(b"%d:" % len(content) + content)
        return whole.hexdigest()

    def _find(self, path: str) -> str | None:
        """By the whole path, else by the name where no other file has it; endings do not matter."""
        stem = _stem(path)
        return stem if stem in self._keys else self._by_name.get(PurePosixPath(stem).name)


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def _stem(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def _mask(content: bytes, size: Size, where: str) -> np.ndarray:
    """An image whose values are classes."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "BMP", "TIFF", "GIF")) as image:
            if image.size != size[::-1] or image.width * image.height > MAX_PIXELS:
                raise TapetumError(
                    f"{where} is {image.width} x {image.height} pixels large, "
                    f"its image {size[1]} x {size[0]}."
                )
            if image.mode not in MODES:
                raise TapetumError(f"{where} has colours ({image.mode}); a mask's values number the classes.")
            classes = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TapetumError(f"{where} cannot be read as an image: {error}.") from None
    if classes.min() < 0 or classes.max() > IGNORED:
        raise TapetumError(
            f"{where} has the value {classes.max()}; classes go from 0 to 254, 255 is ignored."
        )
    return classes.astype(np.uint8)


def _drawn(content: bytes, size: Size, where: str) -> np.ndarray:
    """Boxes and polygons, the largest first."""
    height, width = size
    objects = []
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            name, *rest = line.split()
            kind, places = int(name), np.array(rest, dtype=float)
            if not 0 <= kind < IGNORED - 1 or not np.isfinite(places).all():
                raise ValueError
            points = _corners(places) * (width, height)  # [P, 2], x before y
        except ValueError:
            raise TapetumError(
                f"line {number} of {where} is no object; write CLASS X Y WIDTH HEIGHT or "
                "CLASS X1 Y1 X2 Y2 X3 Y3 ..., with classes from 0 to 253."
            ) from None
        objects.append((_area(points), kind, points))
    classes = np.zeros(size, dtype=np.uint8)
    for _, kind, points in sorted(objects, key=lambda o: -o[0]):
        classes[_inside(points, size)] = kind + 1
    return classes


def _inside(points: np.ndarray, size: Size) -> np.ndarray:
    """bool [H, W]: pixels whose middle lies within the polygon [P, 2]: an odd number of its edges lies to the
    left of them."""
    x, y = points.T
    to_x, to_y = np.roll(x, -1), np.roll(y, -1)
    middle = np.arange(size[0]) + 0.5
    row, edge = np.nonzero((y <= middle[:, None]) != (to_y <= middle[:, None]))
    cut = x[edge] + (middle[row] - y[edge]) * (to_x - x)[edge] / (to_y - y)[edge]
    edges = np.zeros((size[0], size[1] + 1), dtype=np.int64)
    np.add.at(edges, (row, np.ceil(cut - 0.5).clip(0, size[1]).astype(np.int64)), 1)
    return edges[:, :-1].cumsum(1) % 2 == 1


def _corners(places: np.ndarray) -> np.ndarray:
    """A box's or a polygon's corners [P, 2]; raises ValueError."""
    if len(places) == 4:
        centre, half = places[:2], places[2:] / 2
        return centre + half * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    if len(places) < 6 or len(places) % 2:
        raise ValueError
    return places.reshape(-1, 2)


def _area(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
