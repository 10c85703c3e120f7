"""Images that claim to be what they are not, or want gigabytes, and folders with traps among images."""

import os
import struct
import zlib
from pathlib import Path

from hostile.made import ESC, TAG, Case, bmp, chunk, exif, gif, photo, photos, png, scans, tiff, webp, written

BIG = 60_000
SECRET = "/etc/hostname"


def _text(kind: bytes) -> bytes:
    """A PNG with text of 100 MB, packed."""
    packed = zlib.compress(bytes(10**8))
    body = {
        b"zTXt": b"a\0\0" + packed,
        b"iTXt": b"a\0\1\0\0\0" + packed,
        b"iCCP": b"a\0\0" + packed,
    }[kind]
    return png(1, 1, b"\0\0\0\0", chunk(kind, body))


def _trap(name: str, target: str):
    """A folder of good images and a link."""

    def make(folder: Path) -> str:
        photos(folder / "it")
        (folder / "it" / name).symlink_to(target)
        return "it"

    return make


def _loop(folder: Path) -> str:
    photos(folder / "it")
    (folder / "it/cat/round").symlink_to("..")
    (folder / "it/dog/self").symlink_to("self")
    return "it"


def _pipe(folder: Path) -> str:
    photos(folder / "it")
    os.mkfifo(folder / "it/cat/waits.png")
    return "it"


def _named(name: str):
    def make(folder: Path) -> str:
        photos(folder / "it")
        (folder / "it" / os.fsdecode(name)).write_bytes(photo())
        return "it"

    return make


def _class(name: str):
    def make(folder: Path) -> str:
        photos(folder / "it")
        place = folder / "it" / name
        place.mkdir()
        (place / "a.png").write_bytes(photo())
        return "it"

    return make


def _deep(folder: Path) -> str:
    place = folder / "it"
    for _ in range(60):
        place = place / "a"
    place.mkdir(parents=True)
    (place / "a.png").write_bytes(photo())
    photos(folder / "it")
    return "it"


def _sparse(folder: Path) -> str:
    """A file of a terabyte that takes no room."""
    photos(folder / "it")
    with (folder / "it/cat/long.png").open("wb") as file:
        file.truncate(2**40)
    return "it"


SIZE = [(256, 3, 1, 8), (257, 3, 1, 8)]
STRIPS = [(258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 200), (277, 3, 1, 1)]
HUGE = {
    "PNG": png(BIG, BIG),
    "PNG of 2^31 a side": png(2**31 - 1, 2**31 - 1),
    "PNG of one row": png(2**31 - 1, 1),
    "PNG of grey": png(BIG, BIG, colour=0),
    "BMP": bmp(BIG, BIG),
    "BMP upside down": bmp(BIG, -BIG),
    "BMP of 2^31": bmp(2**31 - 1, 2**31 - 1),
    "GIF": gif(65535, 65535),
    "PPM": b"P6 60000 60000 255\n",
    "PPM of many digits": b"P6 " + b"9" * 5000 + b" 1 255\n",
    "PGM": b"P5 2000000000 2000000000 255\n",
    "TIFF": tiff([(256, 4, 1, BIG), (257, 4, 1, BIG), *STRIPS]),
    "TIFF of 2^32": tiff([(256, 4, 1, 2**32 - 1), (257, 4, 1, 2**32 - 1), *STRIPS]),
    "WebP": webp(2**24, 2**24),
    "TGA": struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 65535, 65535, 24, 0),
    "JPEG": b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\1\x22\0\2\x11\1\3\x11\1"
    b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0",
    "JPEG 2000": b"\xff\x4f\xff\x51\0\x2f\0\0"
    + struct.pack(">8I", BIG, BIG, 0, 0, BIG, BIG, 0, 0)
    + b"\0\3"
    + b"\7\1\1" * 3,
}
BROKEN = {
    "nothing": b"",
    "one byte": b"\xff",
    "a program": b"\x7fELF" + bytes(200),
    "a script": b"#!/bin/sh\ntouch canary\n",
    "a page": f"<svg onload=alert(1)>{TAG}".encode(),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(touch canary) (w) file\n",
    "a pickle": b"cos\nsystem\n(S'touch canary'\ntR.",
    "an animation without end": gif(8, 8, 200_000),
    "PNG cut in its head": png(8, 8)[:20],
    "PNG without pixels": png(8, 8),
    "PNG whose pixels unfold": png(8, 8, bytes(10**8)),
    "PNG of no width": png(0, 8),
    "PNG with text of 100 MB": _text(b"zTXt"),
    "PNG with international text of 100 MB": _text(b"iTXt"),
    "PNG with a profile of 100 MB": _text(b"iCCP"),
    "PNG with a chunk of 2 GB": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**31 - 1) + b"IHDR" + bytes(30),
    "PNG with wrong checksums": png(8, 8, bytes(200)).replace(b"IHDR", b"IHDR", 1)[:-20] + bytes(20),
    "PNG with a million small texts": png(1, 1, b"\0\0\0\0", chunk(b"tEXt", b"a\0b") * 200_000),
    "JPEG of too many scans": scans(300),
    "JPEG with a turn that is none": exif(99),
    "JPEG with a turn of 2^31": exif(2**31),
    "JPEG whose EXIF leads to itself": exif(6, loops=True),
    "JPEG cut": photo(64, "JPEG")[:300],
    "JPEG whose segment is longer than it": b"\xff\xd8\xff\xe1\xff\xff" + b"Exif\0\0",
    "TIFF whose directory leads to itself": tiff([*SIZE, *STRIPS], following=8, body=bytes(100)),
    "TIFF of 60,000 entries": tiff([(256 + i % 9, 4, 2**28, 8) for i in range(60_000)]),
    "TIFF with a tag of 4 GB": tiff([*SIZE, (270, 2, 2**32 - 1, 8), *STRIPS]),
    "TIFF with strips elsewhere": tiff(
        [*SIZE, (258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1), (273, 4, 1, 2**31), (277, 3, 1, 1)]
    ),
    "TIFF of 60,000 channels": tiff(
        [*SIZE, (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, 60_000)]
    ),
    "PPM of text that is code": b"P3 1 1 255 __import__('os') 0 0",
    "an icon": b"\0\0\1\0\1\0" + bytes(16),
    "AVIF of nothing": b"\0\0\0\x1cftypavif" + bytes(40),
}
READ_ALL_THE_SAME = {  # these are images; what is odd about them does no harm
    "an animation without end",
    "PNG whose pixels unfold",
    "PNG with a million small texts",
    "JPEG with a turn that is none",
    "JPEG with a turn of 2^31",
    "JPEG whose EXIF leads to itself",
}

CASES = [
    *(Case(f"image: a huge {n}", "image", written("it.png", c), "") for n, c in HUGE.items()),
    *(
        Case(f"image: {n}", "image", written("it.png", c), "read as" if n in READ_ALL_THE_SAME else "")
        for n, c in BROKEN.items()
    ),
    Case("folder: a link to a device without end", "look", _trap("a.png", "/dev/zero"), "a.png is empty"),
    Case("folder: a link to a device of chance", "look", _trap("a.png", "/dev/urandom"), "a.png is empty"),
    Case("folder: a link to a secret", "look", _trap("a.png", SECRET), "a.png is damaged: not an image"),
    Case("folder: a link to nowhere", "look", _trap("a.png", "nowhere"), "link to nowhere"),
    Case("folder: a link to all of the memory", "look", _trap("a.png", "/proc/kcore"), "a.png"),
    Case("folder: a link to the process's memory", "look", _trap("a.png", "/proc/self/mem"), "a.png is"),
    Case("folder: links in a circle", "look", _loop, "4 images"),
    Case("folder: a pipe", "look", _pipe, "cat/waits.png is empty"),
    Case("folder: a file of a terabyte", "look", _sparse, "cat/long.png is damaged"),
    Case("folder: sixty folders deep", "look", _deep, "5 images"),
    Case("folder: a name that commands a terminal", "look_at", _named(f"{ESC}.png"), "5 images"),
    Case("folder: a name of markup", "look_at", _named("[link=file:x][bold]a[|bold].png"), "5 images"),
    Case("folder: a name that is no text", "look_at", _named(b"\xff\xfe.png"), "5 images"),
    Case("folder: a name of two lines", "look_at", _named("a\nwarning: b.png"), "5 images"),
    Case("folder: a class called by a tag", "look_at", _class(TAG.replace("/", "")), "5 images"),
    Case("folder: a class that closes markup", "look_at", _class("[ bold][dim]x[|"), "5 images"),
    Case("folder: a class that closes what is not open", "look_at", _class("[⁄b]"), "5 images"),
    Case("folder: a class that commands a terminal", "look_at", _class(ESC), "x1b"),
    Case("folder: a sheet of a class that commands a terminal", "preview", _class(ESC), "out/x.png"),
    Case("folder: a pack of a class that commands a terminal", "pack", _class(ESC), "out/x.pack"),
]
