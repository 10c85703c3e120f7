"""Ordinary JPEG files through libjpeg-turbo (`simplejpeg`, where it is installed); all else is Pillow's."""

import struct

import numpy as np
from PIL import Image

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

_START, _EXIF, _XMP = b"\xff\xd8", b"Exif\0\0", b"tiff:Orientation"
_APP1, _SOS = 0xE1, 0xDA
_FRAMES = {0xC0, 0xC2}  # baseline and progressive, Huffman-coded
_PASSED = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}  # tables, comments and what applications add
_SPACES = {1: "GRAY", 3: "RGB"}
_ORIENTATION = 0x0112


def decode(
    content: object, max_pixels: int, at_least: int = 0
) -> tuple[np.ndarray, tuple[int, int], int] | None:
    """Pixels uint8 [h, w, 1 or 3] before they are turned, the (height, width) of the whole, and EXIF's turn.

    `at_least` > 0 halves, quarters or eighths the sides, as Pillow would, while both stay that long. None for
    whatever is unusual, too large or damaged in any way: Pillow says what it is, or takes it after all.
    """
    if simplejpeg is None or not isinstance(content, bytes) or not content.startswith(_START):
        return None
    try:
        height, width, space, turn = _header(content)
        if not 0 < height * width <= max_pixels:
            return None
        part = next((s for s in (8, 4, 2) if at_least and min(height, width) // at_least >= s), 1)
        sides = {"min_height": -(-height // part), "min_width": -(-width // part)} if part > 1 else {}
        pixels = simplejpeg.decode_jpeg(content, space, strict=True, **sides)  # strict: no grey stripes
    except Exception:  # whatever it is, Pillow has the words for it
        return None
    return pixels, (height, width), turn


def _header(content: bytes) -> tuple[int, int, str, int]:
    """(height, width, colour space, turn) from the segments before the pixels; raises where they are not
    those of an ordinary file."""
    at, frame, exif, elsewhere = 2, None, b"", False
    while True:
        mark, code, length = struct.unpack_from(">BBH", content, at)
        body = at + 4
        if mark != 0xFF:
            raise ValueError("no marker")
        if code == _SOS and frame:
            return *frame, _turn(exif, elsewhere) if exif or elsewhere else 1
        if code in _FRAMES and not frame:
            precision, height, width, channels = struct.unpack_from(">BHHB", content, body)
            if precision != 8:
                raise ValueError("not 8 bits")
            frame = height, width, _SPACES[channels]
        elif code == _APP1:
            segment = content[body : at + 2 + length]
            if segment.startswith(_EXIF):
                if exif:
                    raise ValueError("EXIF in parts")
                exif = segment
            elsewhere |= _XMP in segment
        elif code not in _PASSED:
            raise ValueError("unusual")
        at += 2 + length


def _turn(exif: bytes, elsewhere: bool) -> int:
    found = Image.Exif()
    if exif:
        found.load(exif)
    if elsewhere and _ORIENTATION not in found:
        raise ValueError("turned by XMP")
    return found.get(_ORIENTATION, 1)
