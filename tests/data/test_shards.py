"""WebDataset shards, Parquet and Arrow files with images, saved Hugging Face data sets."""

import io
import json
import pickle
import resource
import tarfile

import numpy as np
import pytest

from tapetum.base.errors import TapetumError
from tapetum.data import open_data, tables
from tapetum.data.stores import Tar
from tapetum.data.webdataset import expand


def shard(path, members):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as out:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path, png):
    for number in range(3):
        members = {}
        for i in range(number * 2, number * 2 + 2):
            members |= {
                f"{i:04d}.png": png(i),
                f"{i:04d}.cls": str(i % 2).encode(),
                f"{i:04d}.txt": f"text {i}".encode(),
            }
        shard(tmp_path / "shards" / f"set-{number:03d}.tar", members)
    return tmp_path / "shards"


def test_braces_and_globs(shards):
    assert [p.name for p in expand("a-{08..10}-{x,y}.tar")][:3] == ["a-08-x.tar", "a-08-y.tar", "a-09-x.tar"]
    assert len(expand(f"{shards}/*.tar")) == 3


def test_shards_as_folder_as_pattern_and_as_glob(shards, picture):
    opened = [
        open_data(shards),
        open_data(f"{shards}/set-{{000..002}}.tar"),
        open_data(f"{shards}/set-*.tar"),
    ]
    for source in opened:
        assert source.paths == [f"{i:04d}.png" for i in range(6)]
        assert source.labels.tolist() == [0, 1] * 3 and source.texts[5] == "text 5"
        assert source.skipped == [] and source.label_origin == ".cls members"
        np.testing.assert_array_equal(source.read(5), picture(5))
    assert len({source.fingerprint() for source in opened}) == 1
    assert len(open_data(shards / "set-001.tar")) == 2
    with pytest.raises(TapetumError, match=r"no file .*set-003.tar \(1 of 4 shards are missing\)"):
        open_data(f"{shards}/set-{{000..003}}.tar")


def test_json_labels_second_images_and_equal_names(tmp_path, png):
    for number in range(2):
        members = {
            "a.png": png(number),
            "a.json": json.dumps({"label": f"c{number}"}).encode(),
            "a.seg.png": png(9),
        }
        shard(tmp_path / "two" / f"s{number}.tar", members)
    source = open_data(tmp_path / "two")
    assert source.paths == ["s0/a.png", "s1/a.png"] and source.label_names() == ["c0", "c1"]
    assert [row["reason"] for row in source.skipped] == ["second image of a sample"] * 2


def test_a_tar_without_labels_is_an_archive(tmp_path, png):
    shard(tmp_path / "x" / "plain.tar", {f"{c}/{i}.v1.png": png(i) for c in ("cat", "dog") for i in range(2)})
    assert open_data(tmp_path / "x" / "plain.tar").classes == ["cat", "dog"]


@pytest.fixture
def pa():
    return pytest.importorskip("pyarrow")


def rows(pa, png, start, count, names=True):
    values = range(start, start + count)
    images = [{"bytes": png(i), "path": f"{i}.png" if names else None} for i in values]
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["zebra", "ant"]}}
    noted = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    return pa.table(
        {"image": images, "label": [i % 2 if i % 5 else -1 for i in values]}
    ).replace_schema_metadata(noted)


def test_parquet_with_images(tmp_path, pa, png, picture):
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    for split, start, count in (
        ("train-00000-of-00002", 1, 3),
        ("train-00001-of-00002", 4, 3),
        ("test-00000", 7, 2),
    ):
        pq.write_table(rows(pa, png, start, count), tmp_path / "data" / f"{split}.parquet", row_group_size=2)
    source = open_data(tmp_path)
    assert source.splits == ["train", "test"] and source.classes == ["zebra", "ant"]
    train = open_data(tmp_path, split="train")
    assert train.labels.tolist() == [1, 0, 1, 0, -1, 0] and train.paths == [f"{i}.png" for i in range(1, 7)]
    again = pickle.loads(pickle.dumps(train))
    for i in (5, 0, 3):
        np.testing.assert_array_equal(again.read(i), picture(i + 1))
    pq.write_table(pa.table({"raw": [png(0), b"", None]}), tmp_path / "raw.parquet")
    raw = open_data(tmp_path / "raw.parquet")
    assert raw.paths == ["000000", "000001", "000002"] and raw.labels is None
    pq.write_table(pa.table({"a": [1]}), tmp_path / "none.parquet")
    with pytest.raises(TapetumError, match="no column of image paths"):
        open_data(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(TapetumError, match="cannot be read as Parquet"):
        open_data(tmp_path / "bad.parquet")


def save(pa, table, folder, name="data-00000-of-00001.arrow"):
    folder.mkdir(parents=True)
    with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table, max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    (folder / "dataset_info.json").write_text("{}")


def test_saved_data_sets(tmp_path, pa, png, picture):
    save(pa, rows(pa, png, 1, 4, names=False), tmp_path / "one")
    one = open_data(tmp_path / "one")
    assert one.paths == [f"{i:06d}" for i in range(4)] and one.label_names() == [
        "ant",
        "zebra",
        "ant",
        "zebra",
    ]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).read(3), picture(4))
    for split in ("train", "test"):
        save(pa, rows(pa, png, 1, 4, names=False), tmp_path / "both" / split)
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    both = open_data(tmp_path / "both")
    assert both.splits == ["train", "test"] and len(both) == 8
    assert open_data(both, split="test").fingerprint() == one.fingerprint()


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_columns_that_some_files_lack_are_empty_there(tmp_path, pa, png, lacking):
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    there = [i for i in range(6) if i // 2 != lacking]
    for number in range(3):
        rows = [2 * number, 2 * number + 1]
        own = {"text": [f"t{i}" for i in rows], "label": [f"c{i}" for i in rows], "split": ["train", "val"]}
        table = pa.table({"image": [png(i) for i in rows], **(own if number != lacking else {})})
        pq.write_table(table, tmp_path / "data" / f"{number}.parquet")
    source = open_data(tmp_path)
    assert source.texts == [f"t{i}" if i in there else "" for i in range(6)]
    assert source.label_names() == [f"c{i}" if i in there else None for i in range(6)]
    assert source.part("validation").texts == [f"t{i}" for i in there if i % 2]


def test_names_in_rows_that_are_no_text_are_none(tmp_path, pa, png):
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"image": [{"bytes": png(i), "path": i} for i in range(2)]}), tmp_path / "a.parquet"
    )
    assert open_data(tmp_path / "a.parquet").paths == ["000000", "000001"]


@pytest.mark.parametrize("form", ["stream", "file"])
@pytest.mark.parametrize("packing", [None, "lz4", "zstd"])
def test_arrow_files_in_every_form(tmp_path, pa, png, picture, form, packing):
    table = pa.table(
        {"image": [png(i) for i in range(5)], "label": pa.array(list("abaab")).dictionary_encode()}
    )
    how = pa.ipc.IpcWriteOptions(compression=packing)
    with (
        pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink,
        getattr(pa.ipc, f"new_{form}")(sink, table.schema, options=how) as out,
    ):
        out.write_table(table, max_chunksize=2)
    source = open_data(tmp_path / "a.arrow")
    assert source.label_names() == list("abaab")
    np.testing.assert_array_equal(source.read(3), picture(3))
    found = list(tables._unpacked(*messages(tmp_path / "a.arrow", form)))
    least = sum(map(len, map(png, range(5))))
    assert found == [] if packing is None else least <= sum(found) < least + 400


def messages(path, form):
    content = memoryview(path.read_bytes())
    return content, (tables._from_foot if form == "file" else tables._in_turn)(content)


def test_row_groups_that_are_held_have_a_limit_in_bytes(tmp_path, pa, png):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [png(i) for i in range(12)]}), tmp_path / "a.parquet", row_group_size=2)
    store = (source := open_data(tmp_path / "a.parquet")).store
    store.most = 5 * len(png(0))
    for i in (0, 2, 4, 6, 8, 10, 10, 0):
        source.read(i)
    assert len(store._groups) == 2 and store._held == sum(v.nbytes for v in store._groups.values())


def test_a_missing_pyarrow_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"x")
    with pytest.raises(TapetumError, match="pip install"):
        open_data(tmp_path / "a.parquet")


def test_many_shards_may_be_open_at_once(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, limits[1]))
        Tar([tmp_path / f"{i}.tar" for i in range(400)])
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(656, limits[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
