"""Turns an image file into pixels, and whatever is wrong with it into one `Damaged` with a reason."""

import functools
import io
import os
import struct
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from tapetum.data import jpeg
from tapetum.data.form import RGB, Damaged, Form

MAX_PIXELS = 178_956_970  # where Pillow too refuses: about 13,400 x 13,400
EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga"),
)
# A closed list: other readers of Pillow start programs (EPS) or are hardly ever photographs.
_FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA"]
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_SCANS = 200  # of a JPEG: a file of some bytes can ask for thousands, each of which takes as long as an image
_ORIENTATION = 0x0112
warnings.filterwarnings("ignore", module=r"PIL\b")  # what matters becomes Damaged, the rest is noise in bulk


def decode(
    content: bytes | str | os.PathLike | BinaryIO,
    max_pixels: int = MAX_PIXELS,
    at_least: int = 0,
    form: Form = RGB,
) -> np.ndarray:
    """An encoded image -> uint8 [H, W, C] in the form asked for, turned upright as EXIF says.

    Of several frames the first is taken. `at_least` > 0 lets JPEG leave out detail (much faster) as long as
    both sides stay that long. Raises Damaged, and nothing else, for anything that is not a whole image of at
    most `max_pixels` pixels, which is checked before any is decoded.
    """
    return decode_sized(content, max_pixels, at_least, form)[0]


def decode_sized(
    content: bytes | str | os.PathLike | BinaryIO,
    max_pixels: int = MAX_PIXELS,
    at_least: int = 0,
    form: Form = RGB,
) -> tuple[np.ndarray, tuple[int, int]]:
    """As `decode`, with the true size (height, width) that the image has without `at_least`."""
    try:
        if isinstance(content, str | os.PathLike):
            content = Path(content).read_bytes()
        if isinstance(content, bytes) and content[:2] == b"\xff\xd8" and content.count(b"\xff\xda") > _SCANS:
            raise Damaged(f"over {_SCANS} scans")
        found = jpeg.decode(content, max_pixels, at_least) if form.channels in (1, 3) else None
        if found:
            pixels, size, turn = found
            pixels = form.of_array(_turned(pixels, turn) if turn in _TURNS else pixels)
            return pixels, size[::-1] if turn in _SIDEWAYS else size
        return _with_pillow(content, max_pixels, at_least, form)
    except Exception as error:
        raise _damaged(error) from error


def _with_pillow(content, max_pixels: int, at_least: int, form: Form) -> tuple[np.ndarray, tuple[int, int]]:
    with _open(content, max_pixels) as image:
        width, height = image.size
        drafted = image.draft(None, (at_least, at_least)) if at_least else None
        image.load()
        turn = image.getexif().get(_ORIENTATION, 1)  # after load: TIFF turns itself and says so
        if turn in _TURNS:
            image = image.transpose(_TURNS[turn])
        pixels = form.of_image(image)
    if not drafted:
        return pixels, pixels.shape[:2]
    return pixels, (width, height) if turn in _SIDEWAYS else (height, width)


def _turned(pixels: np.ndarray, turn: int) -> np.ndarray:
    """uint8 [h, w, 1 or 3], upright."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).transpose(_TURNS[turn])
    return np.array(image).reshape(image.height, image.width, -1)


def header_size(content: bytes | str | os.PathLike | BinaryIO) -> tuple[int, int]:
    """The (height, width) of an encoded image after EXIF rotation, from its header alone; raises Damaged."""
    try:
        with _open(content, MAX_PIXELS) as image:
            width, height = image.size
            if isinstance(image, TiffImageFile):  # versions of Pillow differ in what they call its size
                width, height = image.tag_v2[256], image.tag_v2[257]
            known = image.format != "PNG" or "exif" in image.info  # else Pillow would decode to look for it
            turn = image.getexif().get(_ORIENTATION, 1) if known else 1
    except Exception as error:
        raise _damaged(error) from error
    return (width, height) if turn in _SIDEWAYS else (height, width)


@functools.cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _open(content, max_pixels: int) -> Image.Image:
    if Image.MAX_IMAGE_PIXELS and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # somebody asked for more than Pillow allows
    if isinstance(content, bytes | bytearray | memoryview):
        if not content:
            raise Damaged("empty")
        content = io.BytesIO(content)
    image = Image.open(content, formats=_formats())
    if image.width * image.height > max_pixels:
        image.close()
        raise Damaged(f"{image.width} x {image.height} is over the limit of {max_pixels:,} pixels")
    if not image.width * image.height:
        image.close()
        raise Damaged("no pixels")
    return image


def _damaged(error: Exception) -> Damaged:
    """What Pillow or the system said -> a reason in a few words."""
    if isinstance(error, Damaged):
        return error
    if isinstance(error, Image.DecompressionBombError):
        return Damaged("over the pixel limit")
    if isinstance(error, UnidentifiedImageError):
        return Damaged("not an image, or its header is damaged")
    if isinstance(error, FileNotFoundError):
        return Damaged("not there")
    if isinstance(error, OSError) and error.strerror:
        return Damaged(error.strerror.lower())
    text = one_line(error)
    if "truncated" in text.lower() or isinstance(error, EOFError | struct.error):
        return Damaged("truncated")
    return Damaged(f"cannot be decoded ({text})")


def one_line(error: Exception) -> str:
    """The beginning of what a library said, fit for a sentence."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:120].rstrip(".")


def is_image(path: str) -> bool:
    """Whether a file's name says that it is an image."""
    return path[path.rfind(".") :].lower() in EXTENSIONS
