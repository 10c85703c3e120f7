"""Folders and archives of every layout, and a sentence for everything that cannot be opened."""

import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from tapetum.base.errors import TapetumError
from tapetum.data import Damaged, open_data
from tapetum.data.stores import Zip


@pytest.fixture
def split_set(png):
    """Two classes in three splits."""
    parts = [("train", 4), ("val", 2), ("test", 2)]
    return {f"{s}/{c}/{i}.png": png(i) for s, n in parts for c in ("cat", "dog") for i in range(n)}


def tarred(tmp_path, files, name="photos.tar", mode="w"):
    with tarfile.open(tmp_path / name, mode) as out:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return tmp_path / name


def test_a_flat_folder(write, png, picture):
    root = write({f"{i}.png": png(i) for i in range(3)})
    source = open_data(root)
    assert source.paths == ["0.png", "1.png", "2.png"] and source.labels is None and source.splits == []
    np.testing.assert_array_equal(source.read(2), picture(2))
    assert source.summary() == "3 images (10x8), no labels"


def test_what_is_left_out_is_counted(write, png):
    left_out = ("notes.txt", ".DS_Store", ".git/d.png", "__MACOSX/a.png")
    root = write({"a.png": png(0), "b.PNG": png(1), "c.png": b"", **{name: png(2) for name in left_out}})
    source = open_data(root)
    assert source.paths == ["a.png", "b.PNG"]
    assert {row["path"]: row["reason"] for row in source.skipped} == {
        **dict.fromkeys((".DS_Store", ".git", "__MACOSX"), "hidden"),
        "c.png": "empty",
        "notes.txt": "not an image",
    }
    assert source.summary().endswith("; 5 files left out (3 hidden, 1 empty, 1 not an image)")


def test_class_folders_and_forced_date_folders(write, png):
    pets = open_data(write({f"{c}/{i}.png": png(i) for c in ("dog", "cat") for i in range(2)}))
    assert pets.classes == ["cat", "dog"] and pets.labels.tolist() == [0, 0, 1, 1]
    assert pets.label_origin == "folders" and "2 classes from folders" in pets.summary()
    bare = open_data(pets, labels="none")
    assert bare.labels is None and open_data(bare).labels is None
    assert open_data(bare, labels="folders").classes == ["cat", "dog"]
    dates = write({f"2023-0{m}/{i}.png": png(i) for m in (4, 5) for i in range(2)}, "album")
    assert open_data(dates).labels is None and "folders look like dates" in open_data(dates).summary()
    assert open_data(dates, labels="folders").classes == ["2023-04", "2023-05"]
    with pytest.raises(TapetumError, match="no folders"):
        open_data(write({"a.png": png(0)}, "flat"), labels="folders")


def test_splits_share_their_classes(write, png, split_set):
    del split_set["test/cat/0.png"], split_set["test/cat/1.png"]
    root = write(split_set)
    whole = open_data(root)
    assert whole.splits == ["train", "validation", "test"] and len(whole) == 14
    test = open_data(root, split="test")
    assert (
        test.classes == ["cat", "dog"]
        and test.labels.tolist() == [1, 1]
        and test.paths == ["dog/0.png", "dog/1.png"]
    )
    assert len(open_data(root, split="val")) == len(open_data(whole, split="validation")) == 4
    with pytest.raises(TapetumError, match="Allowed: test, train, validation"):
        open_data(root, split="trian")
    with pytest.raises(TapetumError, match="has no splits"):
        open_data(root / "train", split="train")
    alone = open_data(root / "test", labels="folders")
    assert alone.labels.tolist() == [0, 0] and alone.with_classes(whole.classes).labels.tolist() == [1, 1]


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_zip_is_the_folder_it_was(write, zipped, split_set, packing, picture):
    folder, packed = open_data(write(split_set)), open_data(zipped(split_set, packing=packing))
    assert packed.paths == folder.paths and packed.labels.tolist() == folder.labels.tolist()
    assert packed.fingerprint() == folder.fingerprint()
    inside = open_data(f"{packed_path(packed)}/train")
    assert inside.fingerprint() == open_data(packed, split="train").fingerprint()
    np.testing.assert_array_equal(inside.read(1), picture(1))
    assert inside.name == "photos.zip/train"
    assert open_data(f"{packed_path(packed)}/train/cat/2.png").paths == ["2.png"]


def packed_path(source):
    assert isinstance(source.store, Zip)
    return source.store.path


def test_a_tar_is_the_folder_it_was(tmp_path, write, split_set):
    path = tarred(tmp_path, split_set)
    assert open_data(path).fingerprint() == open_data(write(split_set)).fingerprint()
    assert open_data(f"{path}/train/cat").paths == [f"{i}.png" for i in range(4)]


def test_splits_below_one_folder_in_an_archive(zipped, split_set):
    source = open_data(zipped({f"pets/{path}": content for path, content in split_set.items()}))
    assert source.splits == ["train", "validation", "test"] and source.classes == ["cat", "dog"]
    assert open_data(source, split="train").paths[0] == "cat/0.png"


def test_a_source_travels_to_other_processes(zipped, png, picture):
    source = open_data(zipped({"a.png": png(0)}))
    source.read(0)  # opens the file here
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).read(0), picture(0))


def test_hostile_names_in_archives_are_skipped(tmp_path, zipped, png):
    hostile = {"../up.png": png(0), "/root.png": png(1), "C:/win.png": png(2), "good.png": png(3)}
    for path in (zipped(hostile), tarred(tmp_path, hostile)):
        source = open_data(path)
        assert source.paths == ["good.png"]
        assert [row["reason"] for row in source.skipped] == ["unsafe name"] * 3


def test_links_in_a_tar_are_skipped(tmp_path, png):
    path = tarred(tmp_path, {"a.png": png(0)})
    with tarfile.open(path, "a") as out:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, "../../etc/passwd"
        out.addfile(link)
    assert open_data(path).skipped == [{"path": "b.png", "reason": "link or special file"}]


def test_a_damaged_member_is_damaged_alone(zipped, png):
    path = zipped({"a.png": png(0), "b.png": png(1)}, packing=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(png(1)) + 60] ^= 255
    path.write_bytes(content)
    source = open_data(path)
    assert source.read(0).shape == (8, 10, 3)
    with pytest.raises(Damaged, match="checksum"):
        source.read(1)


def test_a_member_longer_than_its_archive_admits_is_not_unpacked(zipped):
    path = zipped({"bomb.png": b"\0" * 10_000_000})
    source = open_data(path)
    source.keys[0] = (*source.keys[0][:2], 100, *source.keys[0][3:])
    with pytest.raises(Damaged, match="checksum"):
        source.read(0)


def test_folder_loops_end(tmp_path, write, png):
    root = write({"a/1.png": png(0)})
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    assert open_data(root).paths == ["a/1.png"]


def test_the_pixel_limit_can_be_set(write, png):
    source = open_data(write({"a.png": png(0)}), max_pixels=79)
    with pytest.raises(Damaged, match="limit of 79 pixels"):
        source.read(0)


def test_one_image(write, png):
    assert open_data(write({"a.png": png(0), "b.png": png(1)}) / "a.png").paths == ["a.png"]


def test_bad_input_gets_one_sentence(tmp_path, write, zipped, png):
    root = write({"train/a.png": png(0)})
    (tmp_path / "empty").mkdir()
    packed = zipped({"train/a.png": png(0), "test/b.png": png(1)})
    (tmp_path / "broken.zip").write_bytes(packed.read_bytes()[:50])
    (tmp_path / "broken.tar").write_bytes(b"x" * 2000)
    cut = tarred(tmp_path, {"a.png": png(0, 100, 100), "b.png": png(1, 100, 100)}, "cut.tar")
    cut.write_bytes(cut.read_bytes()[:40_000])
    (tmp_path / "a.tar.gz").write_bytes(b"x")
    (tmp_path / "movie.mp4").write_bytes(b"x")
    write({"a.txt": b"x", "b.doc": b"y"}, "texts")
    write({"photos.zip": b"x"}, "packed")
    for data, sentence in [
        (tmp_path / "potos", "there is no .*potos; did you mean 'photos'"),
        (root / "trian" / "deep", "no .*trian; did you mean 'train'"),
        (tmp_path / "empty", "holds no images. It is empty"),
        (tmp_path / "texts", "2 other file.*'a.txt', is not an image"),
        (tmp_path / "packed", "perhaps .*photos.zip is meant"),
        (f"{packed}/trian", "no 'trian' in .*did you mean 'train'"),
        (f"{packed}/xyz", "it has test, train"),
        (tmp_path / "broken.zip", "damaged or incomplete"),
        (tmp_path / "broken.tar", "damaged or incomplete"),
        (cut, "damaged or incomplete"),
        (tmp_path / "a.tar.gz", "compressed as a whole"),
        (tmp_path / "movie.mp4", "kind that cannot be opened; allowed: a folder"),
        (f"{tmp_path}/movie.mp4/sub", "not a folder or archive"),
        (f"{tmp_path}/no-*.tar", "no file matches"),
        ("", "empty path"),
        (7, "int is no data; allowed: a path"),
    ]:
        with pytest.raises(TapetumError, match=sentence) as caught:
            open_data(data)
        assert "\n" not in str(caught.value)


def test_an_encrypted_zip_gets_a_sentence(zipped, png):
    path = zipped({"a.png": png(0)}, packing=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # set the bit that says encrypted
        content[content.index(mark) + at] |= 1
    path.write_bytes(content)
    with pytest.raises(TapetumError, match="is encrypted"):
        open_data(path)


def test_take_keeps_what_is_known(write, png):
    source = open_data(write({f"{c}/{i}.png": png(i) for c in ("cat", "dog") for i in range(2)}))
    few = source.take(np.array([3, 0]))
    assert few.paths == ["dog/1.png", "cat/0.png"] and few.labels.tolist() == [1, 0] and len(few) == 2
    assert source.take(np.array([True, False, False, False])).paths == ["cat/0.png"]
    assert len(source.take([])) == 0


def test_sizes_are_shown_from_the_smallest_to_the_largest(write):
    root = write({})
    root.mkdir()
    for i, size in enumerate([(30, 20), (12, 10), (15, 30)]):
        Image.new("RGB", size).save(root / f"{i}.png")
    assert open_data(root).summary() == "3 images (12x10 to 30x20), no labels"
