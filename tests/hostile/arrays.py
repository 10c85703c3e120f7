"""Arrays and packs whose headers lie."""

import hashlib
import json
import struct
import zipfile
from pathlib import Path

import numpy as np

from hostile.made import ESC, TAG, Case, npy, npz, photo, written

GOOD = npy((4, 8, 8, 3), body=bytes(768))
OBJECT = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"


def _objects(name: str):
    """An array of Python objects that run a command when they are unpickled."""

    def make(folder: Path) -> str:
        from hostile.made import commands

        array = np.array([commands()["os.system"]], dtype=object)
        if name.endswith(".npy"):
            np.save(folder / name, array, allow_pickle=True)
        else:
            np.savez(folder / name, images=array)
        return name

    return make


def _alone(content: bytes):
    return written("it.npy", content)


def _packed(edit=None, table=None, tail: bytes = b"", inside: bool = True):
    """A pack, sound to its checksums, whose index or table is a stranger's."""

    def make(folder: Path) -> str:
        from tapetum.data.packed import HEADER, ROW, digest, header

        record = photo(8, "JPEG")
        rows = np.zeros(1, ROW)
        rows["offset"], rows["length"], rows["height"], rows["width"] = HEADER, len(record), 8, 8
        rows["digest"] = np.frombuffer(digest(record), np.uint8)
        for field, value in (table or {}).items():
            rows[field] = value
        index = {
            "name": "x",
            "format": "jpeg",
            "side": 8,
            "channels": 3,
            "levels": None,
            "classes": None,
            "label_origin": "none",
            "notes": [],
            "skipped": [],
            "damaged": {},
            "paths": ["a.png"],
            "labels": None,
            "split_of": None,
            "texts": None,
        }
        written_ = edit if isinstance(edit, bytes) else json.dumps({**index, **(edit or {})}).encode()
        at = HEADER + len(record) + rows.nbytes
        page = header(1, at, rows.tobytes(), written_)
        (folder / "it.pack").write_bytes(page + record + rows.tobytes() + written_ + tail)
        return "it.pack"

    return make


def _replaced(folder: Path) -> str:
    """A pack whose record is another image of the same length."""
    _packed()(folder)
    content = bytearray((folder / "it.pack").read_bytes())
    content[4096 + 300] ^= 1
    (folder / "it.pack").write_bytes(content)
    return "it.pack"


def _head(version: int, images: int, table: int, index: int):
    def make(folder: Path) -> str:
        page = struct.pack(
            "<8sIxxxxQQQ16s16s", b"TAPETUM\n", version, images, table, index, bytes(16), bytes(16)
        )
        page = page.ljust(4080, b"\0")
        (folder / "it.pack").write_bytes(page + hashlib.blake2b(page, digest_size=16).digest())
        return "it.pack"

    return make


CASES = [
    Case("npz: Python objects", "look", _objects("it.npz"), "never unpickled"),
    Case("npy: Python objects", "look", _objects("it.npy"), "cannot be read as arrays"),
    Case("npz: Python objects, looked at", "inspect", _objects("it.npz"), "never unpickled"),
    Case(
        "npz: a pickle by that name",
        "look",
        written("it.npz", b"cos\nsystem\n(S'touch canary'\ntR."),
        "never unpickled",
    ),
    Case(
        "npy: a pickle by that name",
        "look",
        written("it.npy", b"cos\nsystem\n(S'touch canary'\ntR."),
        "never unpickled",
    ),
    Case(
        "npz: a header of objects alone",
        "look",
        npz(("images.npy", npy(0, header=OBJECT))),
        "never unpickled",
    ),
    Case(
        "npz: a shape of a terabyte",
        "look",
        npz(("images.npy", npy((10**6, 1000, 1000)))),
        "not as long as its header",
    ),
    Case(
        "npz: a shape beyond all numbers",
        "look",
        npz(("images.npy", npy((10**30, 8, 8)))),
        "not as long as its header",
    ),
    Case("npz: a shape below zero", "look", npz(("images.npy", npy((-4, 8, 8, 3)))), "it.npz"),
    Case(
        "npz: a shape that is code",
        "look",
        npz(("images.npy", npy(0, header=b"__import__('os').system('touch canary')"))),
        "cannot be read as arrays",
    ),
    Case(
        "npz: a header of 10,000 brackets",
        "look",
        npz(("images.npy", npy(0, header=b"(" * 10_000))),
        "cannot be read as arrays",
    ),
    Case(
        "npz: a header of 60 kB",
        "look",
        npz(("images.npy", npy(0, header=b"{'a': " + b"'x'," * 15_000))),
        "cannot be read as arrays",
    ),
    Case(
        "npz: a bomb",
        "look",
        npz(("images.npy", npy((4, 8, 8, 3), body=bytes(2**29))), packing=zipfile.ZIP_DEFLATED),
        "times as long as they are packed",
    ),
    Case("npz: one name twice", "look", npz(("images.npy", GOOD), ("images.npy", GOOD)), "stands twice"),
    Case("npz: names that go up", "look", npz(("../../images.npy", GOOD)), "no array called 'images'"),
    Case(
        "npz: an array that is a script",
        "look",
        npz(("images", b"#!/bin/sh\ntouch canary")),
        "no array called 'images'",
    ),
    Case(
        "npz: a name that commands a terminal",
        "look_at",
        npz((f"{ESC}.npy", npy((4,), body=bytes(4)))),
        "x1b",
    ),
    Case(
        "npz: text as images",
        "look",
        npz(("images.npy", npy((1, 8, 8), "'<U1'", bytes(256)))),
        "holds no images",
    ),
    Case(
        "npz: dates as images",
        "look",
        npz(("images.npy", npy((1, 8, 8), "'<M8[s]'", bytes(512)))),
        "holds no images",
    ),
    Case(
        "npz: records as images",
        "look",
        npz(("images.npy", npy((1, 8, 8), "[('a', '|u1')]", bytes(64)))),
        "holds no images",
    ),
    Case(
        "npz: types without end",
        "look",
        npz(("images.npy", npy((1, 8, 8), "'" + "(9," * 500 + ")" * 500 + "u1'"))),
        "cannot be read as arrays",
    ),
    Case("npz: seven axes", "look", npz(("images.npy", npy((1,) * 7, body=bytes(1)))), "holds no images"),
    Case(
        "npz: labels for more images",
        "look",
        npz(("images.npy", GOOD), ("labels.npy", npy((9,), body=bytes(9)))),
        "do not give one class",
    ),
    Case(
        "npz: compressed in an unknown way",
        "look",
        npz(("images.npy", GOOD), packing=zipfile.ZIP_LZMA),
        "4 images",
    ),
    Case("npy: a shape of a terabyte", "look", _alone(npy((10**6, 1000, 1000))), "cannot be read as arrays"),
    Case("npy: a shape of 2^62", "look", _alone(npy((2**62, 8, 8))), "cannot be read as arrays"),
    Case("npy: cut in its header", "look", _alone(b"\x93NUMPY\1\0\xff\xff{"), "cannot be read as arrays"),
    Case(
        "npy: of a version that is none",
        "look",
        _alone(b"\x93NUMPY\xff\xff" + bytes(100)),
        "cannot be read as arrays",
    ),
    Case(
        "npy: floats that are none", "look", _alone(npy((1, 8, 8), "'<f4'", b"\xff" * 256)), "holds no images"
    ),
    Case("answers: Python objects", "answers", _objects("it.npz"), "holds no answers"),
    Case(
        "answers: a bomb",
        "answers",
        npz(("answers.npy", npy((2**29,), body=bytes(2**29))), packing=zipfile.ZIP_DEFLATED),
        "holds no answers",
    ),
    Case(
        "answers: a metric that is code",
        "answers",
        npz(
            *((f"{n}.npy", npy((1, 1), body=bytes(1))) for n in ("answers", "truth", "rows")),
            ("metric.npy", npy((), "'<U2'", "os".encode("utf-32-le"))),
        ),
        "holds no answers",
    ),
    Case("pack: a good one", "look_at", _packed(), "1 of 1 hold an image"),
    Case("pack: a record that is another", "look_at", _replaced, "records are damaged"),
    Case("pack: a record that is no image", "look_at", _packed(table={"height": 9}), "is no image of"),
    Case("pack: a record that begins elsewhere", "look", _packed(table={"offset": 2**63}), "its offsets"),
    Case("pack: a record that begins in the header", "look", _packed(table={"offset": 0}), "its offsets"),
    Case("pack: a record of exabytes", "look", _packed(table={"length": 2**62}), "its lengths"),
    Case("pack: a size of none", "look", _packed(table={"height": 0}), "its sizes"),
    Case(
        "pack: a size of 2^32",
        "look",
        _packed(table={"height": 2**32 - 1, "width": 2**32 - 1}),
        "over the limit",
    ),
    Case("pack: an index that is a list", "look", _packed(b"[]"), "does not describe a pack"),
    Case("pack: an index nested without end", "look", _packed(b"[" * 10**5), "does not describe a pack"),
    Case("pack: an index of not-a-number", "look", _packed({"side": float("nan")}), "its side"),
    Case(
        "pack: squares of 2^62", "look", _packed({"format": "raw", "side": 2**62}), "does not describe a pack"
    ),
    Case("pack: channels below one", "look", _packed({"channels": -3}), "does not describe a pack"),
    Case("pack: classes that are text", "look", _packed({"classes": "abc", "labels": [0]}), "its classes"),
    Case("pack: labels of no class", "look", _packed({"classes": ["a"], "labels": [7]}), "its labels"),
    Case("pack: more paths than images", "look", _packed({"paths": ["a"] * 9}), "its paths"),
    Case(
        "pack: names that act",
        "look_at",
        _packed({"name": ESC, "paths": [f"../../{ESC}{TAG}"], "notes": [ESC]}),
        "1 image ",
    ),
    Case("pack: a promise of 2^60 images", "look", _head(1, 2**60, 4096, 4096), "is cut off"),
    Case("pack: a table after its end", "look", _head(1, 1, 2**40, 2**40 + 40), "is cut off"),
    Case("pack: of a later version", "look", _head(99, 0, 4096, 4096), "newer tapetum"),
    Case("pack: no pack at all", "look", written("it.pack", b"TAPETUM\n" + bytes(100)), "header"),
]
