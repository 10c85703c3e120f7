"""Tables that list images, and label files joined to images that lie elsewhere."""

import json

import numpy as np
import pytest

from tapetum.base.errors import TapetumError
from tapetum.data import open_data

FILES = [f"img/{i}.png" for i in range(4)]
ROWS = list(zip(FILES, ("cat", "dog", "", "cat"), ("train", "train", "val", "val")))


@pytest.fixture
def images(write, png):
    return write({name: png(i) for i, name in enumerate(FILES)})


def table(kind: str, rows, names=("filename", "label", "split")) -> bytes:
    if kind == "jsonl":
        return "\n".join(json.dumps(dict(zip(names, row))) for row in rows).encode()
    separator = {"tsv": "\t", "csv": ",", "semicolon.csv": ";"}[kind]
    return "\r\n".join(separator.join(row) for row in (names, *rows)).encode()


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolon.csv", "jsonl"])
def test_text_tables(images, kind, picture):
    (images / f"list.{kind}").write_bytes(table(kind, ROWS))
    source = open_data(images / f"list.{kind}")
    assert source.paths == FILES and source.splits == ["train", "validation"]
    assert source.classes == ["cat", "dog"] and source.labels.tolist() == [0, 1, -1, 0]
    assert f"2 classes from column 'label' of list.{kind} (3 images labelled)" in source.summary()
    np.testing.assert_array_equal(source.read(3), picture(3))
    assert open_data(images / f"list.{kind}", split="val").labels.tolist() == [-1, 0]


def test_only_ends_of_lines_part_rows_of_json(images):
    """U+2028 and its kin may stand in a JSON text as they are."""
    rows = [{"path": name, "text": f"a\u2028b\u2029c\x85{i}"} for i, name in enumerate(FILES)]
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (images / "list.jsonl").write_bytes(lines.encode())
    assert open_data(images / "list.jsonl").texts == [row["text"] for row in rows]


def test_parquet_tables(images):
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    pq.write_table(pa.table({"path": FILES, "label": [1, 10, None, 2]}), images / "list.parquet")
    source = open_data(images / "list.parquet")
    assert source.classes == ["1", "2", "10"] and source.labels.tolist() == [0, 2, -1, 1]


def test_rows_that_cannot_be_used_are_counted(images, write):
    rows = [
        "path",
        "img/0.png",
        "./img/0.png",
        "img/none.png",
        "notes.txt",
        "",
        "img/1.png",
        str(images / "img/2.png"),
    ]
    write({"list.csv": "\n".join(f'"{row}"' for row in rows)})
    source = open_data(images / "list.csv")
    assert source.paths == ["img/0.png", "img/1.png", "img/2.png"]
    reasons = sorted(row["reason"] for row in source.skipped)
    assert reasons == ["listed twice", "listed without a path", "not an image", "not there"]


def test_a_list_beside_its_images_is_the_same_data(images, write):
    inside = write({"list.csv": "path\n" + "\n".join(FILES)})
    outside = write({"list.csv": "path\n" + "\n".join(f"../photos/{name}" for name in FILES)}, "lists")
    assert (
        open_data(inside / "list.csv").fingerprint()
        == open_data(inside, labels="none").take(range(4)).fingerprint()
    )
    assert open_data(outside / "list.csv").paths == [f"photos/{name}" for name in FILES]


def test_lists_that_do_not_serve_get_a_sentence(images, write):
    for content, sentence in [
        ("id,breed\n1,cat\n", "no column of image paths.*its columns: 'id', 'breed'"),
        ("path\nimg/9.png\n", "'img/9.png' is not there"),
        ("path\n", "no rows"),
        ("", "is empty"),
        (b"path\n\xff\xfe\n", "cannot be read as a table"),
    ]:
        write({"list.csv": content})
        with pytest.raises(TapetumError, match=sentence):
            open_data(images / "list.csv")


def test_labels_from_a_file(images, write):
    write({"labels.csv": "file,breed\nimg/0.png,pug\n./img\\2.png,corgi\nimg/7.png,pug\n"}, "tables")
    source = open_data(images, labels=images.parent / "tables" / "labels.csv")
    assert source.classes == ["corgi", "pug"] and source.labels.tolist() == [1, -1, 0, -1]
    assert source.label_origin == "labels.csv"
    assert source.summary().endswith("labels.csv: 1 rows without an image, 2 images without a row")


@pytest.mark.parametrize("rows", ["train/a.png,x\nval/a.png,y", "a.png,x"])
def test_labels_are_joined_with_or_without_the_split_folder(write, png, rows):
    root = write({"train/a.png": png(0), "val/a.png": png(1)})
    write({"labels.csv": f"file,label\n{rows}\n"}, "tables")
    whole = open_data(root, labels=str(root.parent / "tables" / "labels.csv"))
    assert whole.label_names() == (["x", "y"] if "val" in rows else ["x", "x"])
    part = open_data(root / "train", labels=str(root.parent / "tables" / "labels.csv"))
    assert part.label_names() == ["x"]


def test_label_files_that_do_not_serve_get_a_sentence(images, write):
    for content, sentence in [
        (
            "file,label\nother.png,cat\n",
            "none of the 1 paths in labels.csv is an image of photos.*'other.png'",
        ),
        ("file,a,b\nimg/0.png,1,2\n", "no column of labels.*'a', 'b'"),
        ("label\ncat\n", "no column of image paths"),
    ]:
        write({"labels.csv": content}, "tables")
        with pytest.raises(TapetumError, match=sentence):
            open_data(images, labels=images.parent / "tables" / "labels.csv")
    with pytest.raises(TapetumError, match=r"no file .*none\.csv"):
        open_data(images, labels="none.csv")
    with pytest.raises(TapetumError, match="is not a table"):
        open_data(images, labels=images / "img/0.png")


def test_labels_from_python(images):
    source = open_data(images, labels=[3, 1, -1, 1])
    assert source.classes == ["1", "3"] and source.labels.tolist() == [1, 0, -1, 0]
    with pytest.raises(TapetumError, match=r"shape \[2\] do not give one class to each of 4 images"):
        open_data(images, labels=np.zeros(2))
