"""Hostile bytes, made here and never committed: images, archives, arrays, tensors and pickles that lie."""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

ESC = "\x1b[2J\x1b]0;owned\x07"  # clears a terminal and names its window
TURNED = "photo\u202egpj.exe"  # shows as photoexe.jpg
TAG = "<img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Case:
    """Args:
    name: of the test.
    act: what is done with it, a name in acts.py.
    make: writes it into a folder; gives the name in the folder that is typed, "it" where None.
    says: what the sentence, or what is said of the files that were left out, must hold.
    """

    name: str
    act: str
    make: Callable[[Path], str | None]
    says: str


def photo(side: int = 8, form: str = "PNG", **how: Any) -> bytes:
    """A small good image."""
    pixels = np.random.default_rng(side).integers(0, 255, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **how)
    return out.getvalue()


def photos(folder: Path, count: int = 4) -> None:
    """Good images of two classes beside what is hostile."""
    for i in range(count):
        place = folder / ("cat", "dog")[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(photo(8 + i))


def written(name: str, content: bytes | str) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    return make


# ---- images ----


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, body: bytes = b"", before: bytes = b"", colour: int = 2) -> bytes:
    """A PNG that claims this size; its pixels are `body`, packed here."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def gif(width: int, height: int, frames: int = 1) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + frame * frames + b"\x3b"


def tiff(entries: list[tuple[int, int, int, int]], following: int = 0, body: bytes = b"") -> bytes:
    """Little-endian TIFF of one directory: (tag, type, count, value) each."""
    content = b"II*\0" + struct.pack("<IH", 8, len(entries))
    content += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return content + struct.pack("<I", following) + body


def scans(count: int) -> bytes:
    """A progressive JPEG that goes through its image many times over."""
    content = photo(64, "JPEG", progressive=True)
    at = content.rindex(b"\xff\xda")
    return content[:at] + content[at:-2] * count + b"\xff\xd9"


def exif(turn: int, loops: bool = False) -> bytes:
    """A JPEG whose EXIF claims a turn, or whose directory leads back to itself."""
    head = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x0112, 3, 1, turn)
    return photo(16, "JPEG", exif=b"Exif\0\0" + head + struct.pack("<I", 8 if loops else 0))


def webp(width: int, height: int) -> bytes:
    """The head of an animated WebP of this size."""
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


# ---- archives ----


def zipped(*members: tuple[str, bytes], packing: int = zipfile.ZIP_DEFLATED, name: str = "it.zip"):
    """A zip of these members; names as they are, also twice."""

    def make(folder: Path) -> str:
        with zipfile.ZipFile(folder / name, "w", packing) as archive:
            for member, content in members:
                info = zipfile.ZipInfo("x")
                info.filename, info.compress_type = member, packing
                archive.writestr(info, content)
        return name

    return make


def lying(make: Callable[[Path], str], *edits: tuple[bytes, int, str, int], name: str = "it.zip"):
    """A zip of which, after the last place of these bytes, fields at an offset are others."""

    def edited(folder: Path) -> str:
        make(folder)
        content = bytearray((folder / name).read_bytes())
        for mark, offset, form, value in edits:
            struct.pack_into(form, content, content.rindex(mark) + offset, value)
        (folder / name).write_bytes(content)
        return name

    return edited


CENTRAL, LOCAL, END = b"PK\1\2", b"PK\3\4", b"PK\5\6"


def encrypted(folder: Path) -> str:
    zipped(("a.png", photo()))(folder)
    return lying(lambda _: "it.zip", (CENTRAL, 8, "<H", 1), (LOCAL, 6, "<H", 1))(folder)


def overlapping(folder: Path) -> str:
    """Several members of one and the same bytes, as the densest bombs have them."""
    zipped(*((f"{i}.png", photo()) for i in range(4)))(folder)
    content = bytearray((folder / "it.zip").read_bytes())
    at = content.index(CENTRAL)
    while content[at : at + 4] == CENTRAL:
        struct.pack_into("<I", content, at + 42, 0)
        at += 46 + sum(struct.unpack_from("<HHH", content, at + 28))
    (folder / "it.zip").write_bytes(content)
    return "it.zip"


def member(name: str, content: bytes = b"", **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info, content


def tarred(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT, name: str = "it.tar"):
    def make(folder: Path) -> str:
        with tarfile.open(folder / name, "w", format=form) as archive:
            for info, content in members:
                archive.addfile(info, io.BytesIO(content))
        return name

    return make


def tar_header(name: bytes, size: bytes, kind: bytes = b"0", form: bytes = b"ustar\0" + b"00") -> bytes:
    """A member's header as it stands in a tar, with any text or number for its size."""
    content = name.ljust(100, b"\0") + b"0000644\0" * 3 + size.rjust(12, b"0")[:12] + b"0" * 11 + b"\0"
    content = (content + b" " * 8 + kind + bytes(100) + form).ljust(512, b"\0")
    return content[:148] + b"%06o\0 " % sum(content) + content[156:]


def negative(size: int) -> bytes:
    return (2**96 + size).to_bytes(12, "big")


# ---- arrays ----


def npy(shape: Any, kind: str = "'|u1'", body: bytes = b"", header: bytes | None = None) -> bytes:
    """An .npy whose header claims a shape."""
    text = header or f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + body


def npz(*members: tuple[str, bytes], packing: int = zipfile.ZIP_STORED):
    return zipped(*members, packing=packing, name="it.npz")


# ---- tensors ----


def tensors(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    """A .safetensors of a header (text, bytes or plain data) and what follows."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def one(shape: list[int], start: int, end: int, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


# ---- pickles ----


class Runs:
    """Unpickled, it calls a function."""

    def __init__(self, function: Callable, *given: Any):
        self.called = function, given

    def __reduce__(self):
        return self.called


def commands() -> dict[str, Any]:
    """What people put into pickles, each leaving a file where it runs."""
    import subprocess

    return {
        "os.system": Runs(os.system, "touch canary"),
        "exec": Runs(exec, "open('canary', 'w')"),
        "eval": Runs(eval, "open('canary', 'w')"),
        "open": Runs(open, "canary", "w"),
        "subprocess": Runs(subprocess.Popen, ["touch", "canary"]),
        "makedirs": Runs(os.makedirs, "canary"),
        "import": Runs(__import__, "antigravity"),
        "mkdir": Runs(os.mkdir, "canary"),
        "torch.load": Runs(torch.load, "canary"),
        "torch.hub": Runs(torch.hub.load_state_dict_from_url, "http://127.0.0.1:9/x.pth"),
        "numpy.load": Runs(np.load, "canary"),
    }


def saved(value: Any, name: str = "it.pt", old: bool = False):
    def make(folder: Path) -> str:
        torch.save(value, folder / name, _use_new_zipfile_serialization=not old)
        return name

    return make


def dumped(value: Any, name: str = "it.bin", protocol: int = 2):
    return written(name, pickle.dumps(value, protocol))


def rezipped(
    value: Any, edit: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]], packing: int = 0
):
    """A file of torch's whose members were changed."""

    def make(folder: Path) -> str:
        out = io.BytesIO()
        torch.save(value, out)
        with zipfile.ZipFile(out) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
        return zipped(*edit(members), packing=packing, name="it.pt")(folder)

    return make


def pickled_zip(pickle_: bytes):
    """A file of torch's with any pickle in it."""
    return rezipped(
        {"a": torch.zeros(1)},
        lambda members: [(n, pickle_ if n.endswith("data.pkl") else c) for n, c in members],
    )


def state(folder: Path, name: str = "it.safetensors", **tensors_: torch.Tensor) -> None:
    save_file(tensors_ or {"a": torch.zeros(2)}, folder / name)
