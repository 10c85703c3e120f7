"""The parsers of data: images, archives, lists, tables, arrays, packs, labels."""

import contextlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.fuzzing import seeds
from benchmarks.fuzzing.judge import Target, Wrong, sentence
from tapetum.data import open_data
from tapetum.data.decode import decode, header_size
from tapetum.data.fingerprint import fingerprint
from tapetum.data.form import Damaged, Form
from tapetum.data.packed import HEADER, digest
from tapetum.data.webdataset import expand

MOST = 2**18  # pixels of an image: the limit is a setting, and what an image may cost follows from it
READ = 6  # images that are read of each source


@contextlib.contextmanager
def may_be_damaged() -> Iterator[None]:
    """One image may be left out, with a reason."""
    try:
        yield
    except Damaged as error:
        sentence(error)


def fresh(file: Path, content: bytes) -> Path:
    """A new file in the place of the old one, which may still be mapped."""
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    return file


def whole(pixels: np.ndarray, channels: int) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != channels or not pixels.size:
        raise Wrong(f"pixels of shape {pixels.shape} and type {pixels.dtype}")


def image(data: bytes, folder: Path) -> None:
    """As files of any form, in full and with less detail, and the size that the header tells."""
    for channels, at_least in ((3, 0), (1, 0), (4, 0), (3, 3)):
        with may_be_damaged():
            whole(decode(data, MOST, at_least, Form(channels)), channels)
    with may_be_damaged():
        whole(decode(data, MOST, 0, Form(1, (10.0, 200.0))), 1)
    with may_be_damaged():
        header_size(data)


def all_of(what: str, labels: str = "auto") -> None:
    """Open a source, read its first images, and all that it says of itself."""
    source = open_data(what, labels, max_pixels=MOST)
    for row in source.skipped[:20]:
        sentence(row["reason"])
    for i in range(min(len(source), READ)):
        with may_be_damaged():
            whole(source.read(i), source.form.channels)
        with may_be_damaged():
            source.store.content(source.keys[i])
    if len(source) < 1000:
        source.summary()
    fingerprint([b""] * len(source), source.paths, source.label_names())


def file(name: str):
    """A target's run: the input as a file of this name."""

    def run(data: bytes, folder: Path) -> None:
        all_of(str(fresh(folder / name, data)))

    return run


def table(name: str):
    """A list of images, and labels for images that are there."""

    def run(data: bytes, folder: Path) -> None:
        place = str(fresh(folder / name, data))
        try:
            all_of(place)
        finally:
            all_of(str(folder / "photos"), place)

    return run


def beside_table(folder: Path) -> None:
    seeds.write_photos(folder)
    seeds.write_photos(folder / "photos")


def saved(data: bytes, folder: Path) -> None:
    """A saved Hugging Face data set, of which the first byte chooses a file."""
    places = ("dataset_dict.json", "train/state.json", "train/data.arrow")
    whole_files = dict(zip(places, (b'{"splits": ["train"]}', _STATE, seeds.arrows()[0])))
    for place, content in (whole_files | {places[data[0] % 3 if data else 0]: data[1:]}).items():
        (folder / "saved" / place).parent.mkdir(parents=True, exist_ok=True)
        fresh(folder / "saved" / place, content)
    all_of(str(folder / "saved"))


_STATE = b'{"_data_files": [{"filename": "data.arrow"}], "_split": "train", "_indices_data_files": null}'


def saved_seeds() -> list[bytes]:
    return [
        b'\0{"splits": ["train", "../train"]}',
        b"\1" + _STATE,
        *(b"\2" + one for one in seeds.arrows()[:1]),
    ]


def places(data: bytes, folder: Path) -> None:
    """Paths as people type them: into archives, and patterns, which here stay in the folder."""
    text = data.decode(errors="replace")
    all_of(f"{folder}/photos.zip/{text}")
    tame = text.replace("..", "").replace("**", "*").lstrip("/")
    if tame.count("{") < 3:  # products of patterns are as long as somebody asks for
        expand(f"{folder}/{tame}")


def beside_places(folder: Path) -> None:
    (folder / "photos.zip").write_bytes(seeds.zipped(seeds.photos()))


def mended_png(data: bytes) -> bytes:
    """With the checksum of every chunk made right."""
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        out += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(out)


def mended_pack(data: bytes) -> bytes:
    """With the digests of table, index and header made right."""
    if len(data) < HEADER:
        return data
    page, length = bytearray(data[:HEADER]), len(data)
    table_at, index_at = (min(n, length) for n in struct.unpack_from("<QQ", page, 24))
    page[40:56], page[56:72] = digest(data[table_at:index_at]), digest(data[index_at:])
    page[-16:] = digest(bytes(page[:-16]))
    return bytes(page) + data[HEADER:]


TARGETS = {
    "jpeg": Target(image, seeds.jpegs),
    "png": Target(image, seeds.pngs, mend=mended_png),
    "tiff": Target(image, seeds.tiffs),
    "image": Target(image, seeds.others),
    "zip": Target(file("x.zip"), seeds.zips),
    "tar": Target(file("x.tar"), seeds.tars),
    "webdataset": Target(file("x.tar"), seeds.shards),
    "csv": Target(table("x.csv"), seeds.separated, beside_table),
    "tsv": Target(table("x.tsv"), lambda: seeds.separated("\t"), beside_table),
    "jsonl": Target(table("x.jsonl"), seeds.json_lines, beside_table),
    "parquet": Target(table("x.parquet"), seeds.parquets, beside_table),
    "arrow": Target(file("x.arrow"), seeds.arrows),
    "saved": Target(saved, saved_seeds),
    "npz": Target(file("x.npz"), seeds.npzs),
    "npy": Target(file("x.npy"), seeds.npys),
    "pack": Target(file("x.pack"), seeds.packs, mend=mended_pack),
    "path": Target(
        places, lambda: [b"dog", b"cat/1.png", b"x-{000..003}.tar", b"a{b,c}*.tar", b""], beside_places
    ),
}
