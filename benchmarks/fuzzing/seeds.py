"""Small whole files of every kind, made here: what damage begins with."""

import contextlib
import csv
import functools
import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

SIZE = (12, 9)  # width and height


def pixels(seed: int, *shape: int) -> np.ndarray:
    """uint8, smooth enough that files stay short."""
    noise = np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)
    return noise // 64 * 64


def image(mode: str = "RGB", seed: int = 0) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(pixels(seed, 9, 12).astype(np.uint16) * 257)
    if mode in ("F", "I"):
        return Image.fromarray(pixels(seed, 9, 12).astype(np.float32 if mode == "F" else np.int32))
    return Image.fromarray(pixels(seed, 9, 12, 3)).convert(mode)


def saved(picture: Image.Image, kind: str, **how: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **how)
    return out.getvalue()


def turned(turn: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif


def jpegs() -> list[bytes]:
    whole = saved(image(), "JPEG", exif=turned(6))
    return [
        *(saved(image(mode), "JPEG") for mode in ("L", "CMYK")),
        saved(image(), "JPEG", progressive=True, exif=turned(1)),
        saved(image(), "JPEG", subsampling=0, xmp=b'<x xmlns:tiff="t" tiff:Orientation="3"/>', comment=b"c"),
        saved(image(), "JPEG", restart_marker_blocks=1, icc_profile=b"profile" * 9),
        whole,
        whole[:2] + whole[20:],
    ]


def pngs() -> list[bytes]:
    palette = image().quantize(8)
    modes = [saved(image(mode), "PNG") for mode in ("1", "L", "LA", "RGB", "RGBA", "I;16")]
    more = [
        saved(palette, "PNG", transparency=b"\0\x80"),
        saved(image(), "PNG", exif=turned(8), dpi=(72, 72)),
    ]
    moving = saved(image(), "PNG", save_all=True, append_images=[image(seed=1)])
    return [*modes, *more, moving, saved(image(), "PNG", icc_profile=b"p" * 300)]


def tiffs() -> list[bytes]:
    packings = ("raw", "tiff_deflate", "tiff_lzw", "packbits", "jpeg", "tiff_adobe_deflate")
    usual = [saved(image(), "TIFF", compression=packing) for packing in packings]
    deep = [saved(image(mode), "TIFF") for mode in ("I;16", "F", "I", "CMYK", "1", "LA")]
    return [
        *usual,
        *deep,
        saved(image(), "TIFF", exif=turned(5)),
        saved(image("1"), "TIFF", compression="group4"),
    ]


def others() -> list[bytes]:
    found = [
        saved(image(), "BMP"),
        saved(image("L"), "BMP"),
        saved(image(), "DIB"),
        saved(image().quantize(8), "GIF", transparency=1),
        saved(image(), "GIF", save_all=True, append_images=[image(seed=1)], loop=0),
        *(saved(image(mode), "PPM") for mode in ("1", "L", "RGB")),
        b"P3\n2 1\n255\n1 2 3 4 5 6\n",
        saved(image("F"), "PPM"),
        *(saved(image(mode), "TGA", compression="tga_rle") for mode in ("L", "RGBA")),
        saved(image().quantize(8), "TGA"),
    ]
    if features.check("webp"):
        found += [saved(image("RGBA"), "WEBP", lossless=True), saved(image(), "WEBP", exif=turned(3))]
    if features.check("jpg_2000"):
        found += [saved(image(), "JPEG2000"), saved(image("LA"), "JPEG2000", no_jp2=True)]
    if features.check("avif"):
        found.append(saved(image(), "AVIF", speed=10))
    return found


@functools.cache
def photos() -> dict[str, bytes]:
    """Six images in class folders."""
    return {f"{'cat' if i % 2 else 'dog'}/{i}.png": saved(image(seed=i), "PNG") for i in range(6)}


def write_photos(folder: Path) -> None:
    for name, content in photos().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def zipped(files: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, packing)
    return out.getvalue()


def zips() -> list[bytes]:
    two = dict(list(photos().items())[:2])
    packings = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    odd = {"train/a/x.png": two["dog/0.png"], "val/b/ä.jpg": jpegs()[0], "../up.png": b"x", ".DS_Store": b"y"}
    return [*(zipped(two, packing) for packing in packings), zipped(odd), zipped({})]


def tarred(files: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "../outside.png"
        archive.addfile(link)
    return out.getvalue()


def tars() -> list[bytes]:
    two = dict(list(photos().items())[:2])
    long = {f"{'folder/' * 30}x.png": two["dog/0.png"], "ü/1.png": two["cat/1.png"]}
    return [tarred(two), tarred(long, tarfile.GNU_FORMAT), tarred(long, tarfile.PAX_FORMAT)]


def shards() -> list[bytes]:
    png = photos()["dog/0.png"]
    labelled = {"0.png": png, "0.cls": b"3", "0.txt": b"a dog", "1.png": png, "1.cls": b"4"}
    noted = {"a/0.png": png, "a/0.json": b'{"label": "dog", "x": [1]}', "a/0.seg.png": png, "a/1.png": png}
    return [tarred(labelled), tarred(noted), tarred({"0.png": png, "0.json": b"7"}, tarfile.PAX_FORMAT)]


def tables() -> list[tuple[dict[str, Any], ...]]:
    """Rows that name photos."""
    names = list(photos())
    return [
        tuple({"path": name, "label": name[:3]} for name in names),
        tuple(
            {"file": f"./{name}", "class": i % 2, "split": "train" if i else "test"}
            for i, name in enumerate(names)
        ),
        tuple(
            {"image": name, "y": i / 2, "text": 'a "dog", ä', "more": None} for i, name in enumerate(names)
        ),
    ]


def separated(delimiter: str = ",") -> list[bytes]:
    found = []
    for rows in tables():
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
        found.append(out.getvalue().encode())
    return found


def json_lines() -> list[bytes]:
    return ["".join(json.dumps(row) + "\n" for row in rows).encode() for rows in tables()]


def _image_tables() -> list[Any]:
    import pyarrow as pa

    rows = [{"bytes": content, "path": name} for name, content in photos().items()]
    label = {"names": ["a", "b"], "_type": "ClassLabel"}
    noted = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
    hugging = pa.table({"image": rows[:2], "label": [0, 1]})
    return [
        hugging.replace_schema_metadata({"huggingface": json.dumps(noted)}),
        pa.table(
            {"jpg": [row["bytes"] for row in rows[:2]], "text": ["one", None], "split": ["train", "test"]}
        ),
        pa.table({"picture": [{"bytes": None, "path": "dog/0.png"}], "class": [0.5]}),
    ]


def parquets() -> list[bytes]:
    import pyarrow as pa
    from pyarrow import parquet

    found = []
    for table in (*_image_tables(), *(pa.Table.from_pylist(list(rows)) for rows in tables())):
        out = pa.BufferOutputStream()
        parquet.write_table(table, out, compression="none", write_statistics=False)
        found.append(out.getvalue().to_pybytes())
    return found


def arrows() -> list[bytes]:
    import pyarrow as pa

    found = []
    for begin in (pa.ipc.new_stream, pa.ipc.new_file):
        for table in _image_tables():
            out = pa.BufferOutputStream()
            with begin(out, table.schema) as writer:
                writer.write_table(table)
            found.append(out.getvalue().to_pybytes())
    return found


def arrays(write: Callable[..., None], *given: Any, **named: Any) -> bytes:
    out = io.BytesIO()
    write(out, *given, **named)
    return out.getvalue()


def npzs() -> list[bytes]:
    x, y = pixels(0, 4, 6, 5, 3), np.array([0, 1, 0, 1])
    return [
        arrays(np.savez, images=x, labels=y),
        arrays(
            np.savez_compressed, train_images=x, train_labels=y[:, None], test_images=x[:2], test_labels=y[:2]
        ),
        arrays(np.savez, x=x.transpose(0, 3, 1, 2) / np.float32(255), classes=np.array(["a", "b"])),
        arrays(np.savez, features=np.zeros((3, 4), np.float32), paths=np.array(["a", "b", "c"])),
    ]


def npys() -> list[bytes]:
    x = pixels(0, 4, 6, 5, 3)
    return [arrays(np.save, x), arrays(np.save, x[..., 0].astype(np.uint16)), arrays(np.save, x / 255.0)]


def packs() -> list[bytes]:
    from tapetum.data.pack import pack

    found = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        write_photos(Path(folder) / "photos")
        (Path(folder) / "photos" / "dog" / "bad.png").write_bytes(b"no image")
        for kind in ("raw", "jpeg"):
            file = Path(folder) / f"{kind}.pack"
            pack(str(Path(folder) / "photos"), str(file), 8, kind)
            found.append(file.read_bytes())
    return found
