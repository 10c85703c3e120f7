"""Packed stores: what comes back, what is refused, and that a killed one goes on to the same bytes."""

import hashlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

import tapetum
from tapetum.base.errors import TapetumError
from tapetum.data import Damaged, open_data
from tapetum.data import packed as form
from tapetum.data.canvas import Canvas, squash, typical_side
from tapetum.methods import find
from tapetum.train import defaults


@pytest.fixture
def photos(write, png):
    """12 images of different shapes in two splits and two classes, one of them damaged, and a stray file."""
    files = {
        f"{'train' if i < 8 else 'test'}/{'ab'[i % 2]}/{i:02d}.png": png(i, 8 + i, 20) for i in range(12)
    }
    files["train/b/03.png"] = files["train/b/03.png"][:60]
    return write({**files, "notes.txt": "nothing"})


def packed(data, out, **settings):
    return open_data(tapetum.pack(data, out=str(out), **settings)["out"])


def assert_same_source(one, other):
    for name in ("name", "paths", "classes", "label_origin", "split_of", "texts", "columns", "skipped"):
        assert getattr(one, name) == getattr(other, name), name
    assert (one.labels is None) == (other.labels is None)
    np.testing.assert_array_equal(one.labels, other.labels)


def test_columns_of_a_list_survive_and_an_older_pack_has_none(write, png, tmp_path):
    rows = "".join(f"{i}.png,{i % 2},p{i // 2},c{i}\n" for i in range(4))
    files = {f"{i}.png": png(i) for i in range(4)} | {"list.csv": "path,label,patient,text\n" + rows}
    source = open_data(write(files) / "list.csv")
    pack = packed(source, tmp_path / "p", size=8)
    assert_same_source(source, pack)
    assert pack.column("patient") == ["p0", "p0", "p1", "p1"]
    whole = (tmp_path / "p.pack").read_bytes()
    (tmp_path / "older.pack").write_bytes(rewritten(whole, lambda index: index.pop("columns")))
    assert open_data(tmp_path / "older.pack").columns == {}


@pytest.mark.parametrize("kind", ["raw", "jpeg"])
def test_all_that_is_known_survives(photos, tmp_path, kind):
    source, pack = open_data(photos), packed(photos, tmp_path / "out", size=8, format=kind)
    assert (tmp_path / "out.pack").exists() and list(tmp_path.glob(".*")) == []
    assert_same_source(source, pack)
    assert pack.splits == ["train", "test"] and pack.notes[-1].startswith("packed as")
    assert "12 images (" in pack.summary() and pack.summary().endswith("of 8 pixels")
    assert [pack.size(i) for i in (4, 11)] == [(8, 20), (15, 20)]
    for read in (source.read, pack.read, pack.size):
        with pytest.raises(Damaged, match=r"truncated|cannot be decoded"):
            read(9)  # sorted, it is train/b/03.png
    assert_same_source(open_data(source, split="train"), open_data(tmp_path / "out.pack", split="train"))
    assert pickle.loads(pickle.dumps(pack)).read(4).shape == pack.read(4).shape == (8, 20, 3)


def test_raw_squares_are_those_that_training_would_make(photos, tmp_path):
    source, pack = open_data(photos), packed(photos, tmp_path / "out.pack", size=8)
    for fit in ("crop", "squash"):
        for i in [*range(9), 10, 11]:
            (pixels, size), (stored, known) = squash(source, i, 8, fit), squash(pack, i, 8, fit)
            np.testing.assert_array_equal(pixels, stored)
            assert size == known
    one, other = (Canvas(s, 8, limit, 0.2, workers=2) for s, limit in ((source, None), (pack, 0)))
    torch.testing.assert_close(one.fetch(torch.arange(12)), other.fetch(torch.arange(12)), rtol=0, atol=0)
    assert torch.equal(one.order(3, 5), other.order(3, 5))
    assert one.shown(torch.arange(12)).tolist() == other.shown(torch.arange(12)).tolist()
    assert one.skipped == other.skipped and typical_side(pack) == 8
    pad, size = squash(pack, 4, 20, "pad")  # 8 x 20: black above and below
    assert size == (20, 20) and pad[:, :5].max() == 0 and pad[:, 7:13].mean() > 60


def test_a_run_on_a_pack_is_the_run_on_its_source(write, png, tmp_path):
    root = write({f"{'ab'[i % 2]}/{i:02d}.png": png(i, 36 + i % 5, 40) for i in range(16)})
    small = {"image_size": 32, "batch_size": 8, "steps": 3, "precision": "fp32", "log_every": 1, "workers": 1}
    small |= {"encoder": "resnet10_w32", "encoder_settings": {"channels": [4, 8, 8, 16]}}
    small |= {"method_settings": {"hidden": 8, "dim": 8}}
    side = min(max(typical_side(open_data(root)), 32), 64)
    tapetum.pack(root, out=str(tmp_path / "p"), size=side)
    tapetum.pretrain(root, out=str(tmp_path / "one"), **small)
    tapetum.pretrain(tmp_path / "p.pack", out=str(tmp_path / "other"), **small)
    one, other = (tmp_path / name / "encoder.safetensors" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_jpeg_keeps_proportions_and_small_files_as_they_are(write, tmp_path):
    root = write({})
    root.mkdir()
    Image.linear_gradient("L").resize((90, 60)).convert("RGB").save(root / "a.png")
    Image.linear_gradient("L").resize((30, 20)).save(root / "b.jpg", exif=turned())
    pack = packed(root, tmp_path / "p", size=30, format="jpeg")
    assert pack.read(0).shape == (30, 45, 3) and pack.size(0) == (60, 90)
    wanted = np.asarray(Image.fromarray(open_data(root).read(0)).resize((45, 30), Image.Resampling.BILINEAR))
    assert np.abs(pack.read(0).astype(int) - wanted).mean() < 2
    assert pack.store.content(1) == (root / "b.jpg").read_bytes() and pack.size(1) == (30, 20)
    assert squash(pack, 0, 16)[1] == (60, 90)
    again = packed(packed(root, tmp_path / "raw", size=30), tmp_path / "again", size=20, format="jpeg")
    assert again.read(0).shape == (20, 30, 3) and again.size(0) == (60, 90)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_channels_and_levels_are_packed_and_later_asked_for(tmp_path):
    deep = np.random.default_rng(0).integers(0, 4096, (6, 8, 8, 2)).astype(np.uint16)
    pack = packed(deep, tmp_path / "p", size=8, levels=(0, 4095), channels=2)
    assert (pack.store.channels, pack.store.levels) == (2, (0, 4095)) and pack.notes[-1].startswith(
        "packed as d"
    )
    made = open_data(deep).formed(form.Form(2, (0, 4095)))
    np.testing.assert_array_equal(pack.formed(form.Form(2)).read(3), made.read(3))
    np.testing.assert_array_equal(pack.formed(form.Form(2, (0.0, 4095.0))).read(3), made.read(3))
    chosen = defaults.choose(
        {"devices": "cpu", "batch_size": 2}, pack, find("simclr")
    )  # so that the encoder will keep them
    assert (chosen["channels"].value, chosen["levels"].value) == (2, (0, 4095))
    with pytest.raises(TapetumError, match="levels"):
        pack.formed(form.Form(2, (0, 100))).read(3)
    with pytest.raises(TapetumError, match="JPEG holds 1 or 3 channels"):
        tapetum.pack(deep, out=str(tmp_path / "q"), channels=2, format="jpeg")


def test_auto_weighs_memory_and_disk(photos, tmp_path, monkeypatch, capsys):
    assert tapetum.pack(photos, out=str(tmp_path / "a"), size=8)["format"] == "raw"
    assert "packing as raw of 8 pixels, about 2.3 kB: " in capsys.readouterr().out
    monkeypatch.setattr("tapetum.data.pack.free_memory", lambda: 1000)
    assert tapetum.pack(photos, out=str(tmp_path / "b"), size=8)["format"] == "jpeg"
    assert "decoded it would take 2.3 kB of 1.0 kB free memory" in capsys.readouterr().out
    monkeypatch.setattr("shutil.disk_usage", lambda _: Room())
    with pytest.raises(TapetumError, match="100 B left"):
        tapetum.pack(photos, out=str(tmp_path / "c"), size=8)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pack", "b.pack", "photos"]


class Room:
    free = 100


def test_places(photos, tmp_path):
    (tmp_path / "folder").mkdir()
    assert tapetum.pack(photos, out=str(tmp_path / "folder"))["out"] == str(
        tmp_path / "folder" / "photos.pack"
    )
    with pytest.raises(TapetumError, match=r"perhaps .*photos\.pack is meant"):
        open_data(tmp_path / "folder")
    with pytest.raises(TapetumError, match="exists already"):
        tapetum.pack(photos, out=str(tmp_path / "folder"))
    with pytest.raises(TapetumError, match=r"ends in \.pack"):
        tapetum.pack(photos, out=str(tmp_path / "p.zip"))


def test_texts_of_shards_and_sources_without_labels(tmp_path, png):
    with tarfile.open(tmp_path / "s.tar", "w") as out:
        for i in range(4):
            for name, content in ((f"{i}.png", png(i)), (f"{i}.txt", f"text {i}".encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
    pack = packed(tmp_path / "s.tar", tmp_path / "p")
    assert pack.texts == [f"text {i}" for i in range(4)] and pack.labels is None


def test_labels_left_out_stay_out(photos, tmp_path):
    assert packed(photos, tmp_path / "p", labels="none").classes is None
    assert open_data(tmp_path / "p.pack", labels="folders").classes == ["a", "b"]


# ---- damage ----


def test_one_other_byte_anywhere_is_seen_and_a_records_is_named(photos, tmp_path):
    pack = packed(photos, tmp_path / "p", size=8)
    path, broken = tmp_path / "p.pack", tmp_path / "broken.pack"
    whole, rows = path.read_bytes(), pack.store.table
    for number in (0, 4, 11):
        for at in (0, 50, 191):
            broken.write_bytes(flipped(whole, int(rows[number]["offset"]) + at))
            source = open_data(broken)
            source.read((number + 1) % 12)
            with pytest.raises(
                TapetumError, match=rf"record {number} \({source.paths[number]}\) of .*broken"
            ):
                source.read(number)
            with pytest.raises(TapetumError, match=f"record {number} "):
                Canvas(source, 8, 0, 0.2, workers=2).fetch(torch.arange(12))
    table_at = int((rows["offset"] + rows["length"]).max())
    for at, what in [
        (0, "not a pack of tapetum's"),
        (9, "header"),
        (30, "header"),
        (4000, "header"),
        (4095, "header"),
        (table_at + 3, "table"),
        (table_at + len(rows) * form.ROW.itemsize - 1, "table"),
        (len(whole) - 400, "index"),
        (len(whole) - 1, "index"),
    ]:
        broken.write_bytes(flipped(whole, at))
        with pytest.raises(TapetumError, match=what):
            open_data(broken)


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


def test_the_fingerprint_is_that_of_the_records(photos, tmp_path):
    one, other = packed(photos, tmp_path / "p", size=8), packed(photos, tmp_path / "q", size=8, workers=0)
    assert one.fingerprint() == other.fingerprint() == one.take([*range(12)][::-1]).fingerprint()
    assert (tmp_path / "p.pack").read_bytes() == (tmp_path / "q.pack").read_bytes()
    names = {packed(photos, tmp_path / f"{size}", size=size).fingerprint() for size in (8, 9)}
    assert len(names | {open_data(photos).fingerprint()}) == 3


def test_cut_foreign_and_newer_packs_are_one_sentence(photos, tmp_path):
    packed(photos, tmp_path / "p", size=8)
    whole, broken = (tmp_path / "p.pack").read_bytes(), tmp_path / "broken.pack"
    newer = whole[:8] + (7).to_bytes(4, "little") + whole[12:4080]
    for content, what in [
        (b"", "not a pack"),
        (b"PACK" + bytes(9000), "not a pack"),
        (whole[:100], "header"),
        (whole[:4096], "cut off"),
        (whole[:5000], "cut off"),
        (whole[:-1], "index"),
        (whole + b"x", "index"),
        (newer + form.digest(newer) + whole[4096:], "newer tapetum .form 7; this one reads 1."),
    ]:
        broken.write_bytes(content)
        with pytest.raises(TapetumError, match=what) as caught:
            open_data(broken)
        assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def rewritten(whole, change, rows=lambda table: table):
    """A pack with another index or table, and checksums that agree."""
    facts = form._FACTS.unpack_from(whole)
    table = np.frombuffer(whole[facts[3] : facts[4]], form.ROW).copy()
    index = json.loads(whole[facts[4] :])
    change(index)
    written, table = json.dumps(index).encode(), rows(table).tobytes()
    page = form.header(len(table) // form.ROW.itemsize, facts[3] + len(table), table, written)
    return page + whole[4096 : facts[3]] + table + written


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda index: index.pop("paths"), "paths"),
        (lambda index: index["paths"].pop(), "paths"),
        (lambda index: index.update(side=2**40), "squares"),
        (lambda index: index.update(side=-8), "side"),
        (lambda index: index.update(channels=0), "channels"),
        (lambda index: index.update(format="pickle"), "format"),
        (lambda index: index["labels"].__setitem__(0, 5), "labels"),
        (lambda index: index.update(split_of=["train"]), "split_of"),
        (lambda index: index.update(damaged={}), "damaged"),
        (lambda index: index.update(skipped=[3]), "int"),
        (lambda index: index.update(columns={"patient": ["x"]}), "columns"),
        (lambda index: index.update(columns={"patient": 12 * [3]}), "columns"),
        (lambda index: index.update(columns=[]), "list"),
    ],
)
def test_an_index_that_is_whole_but_hostile_is_refused(photos, tmp_path, change, what):
    packed(photos, tmp_path / "p", size=8)
    broken = tmp_path / "broken.pack"
    broken.write_bytes(rewritten((tmp_path / "p.pack").read_bytes(), change))
    with pytest.raises(TapetumError, match=f"does not describe a pack .*{what}"):
        open_data(broken)


@pytest.mark.parametrize(("field", "value"), [("offset", 2**63), ("length", 2**64 - 5), ("height", 0)])
def test_a_table_that_points_astray_is_refused(photos, tmp_path, field, value):
    packed(photos, tmp_path / "p", size=8)

    def astray(table):
        table[field][2] = value
        return table

    broken = tmp_path / "broken.pack"
    broken.write_bytes(rewritten((tmp_path / "p.pack").read_bytes(), lambda index: None, astray))
    with pytest.raises(TapetumError, match="does not describe a pack"):
        open_data(broken)


# ---- going on ----

# The command line in a process of its own, which notes each record at once and is killed after some of them,
# with half a record and half a line written.
RUNNER = """
import os, signal, sys
from tapetum.data import pack

pack._FLUSH = 0, 0.0
real, left = pack.record, [int(os.environ["LEFT"])]

def mortal(source, side, kind, i):
    if i == left[0]:
        part = next(p for p in os.scandir(sys.argv[-1]) if p.name.endswith(".part"))
        journal = part.path.replace(".part", ".journal")
        while open(journal).read().count("\\n") < i + 1:  # all before are noted, and this one is waited for
            pass
        with open(part.path, "ab") as file, open(journal, "a") as lines:
            file.write(b"half a record")
            lines.write("[192, 8,")
        os.kill(os.getpid(), signal.SIGKILL)
    return real(source, side, kind, i)

pack.record = mortal
from tapetum.cli import main
sys.exit(main(["pack", sys.argv[1], "--size", "8", "--workers", "1", "--out", sys.argv[2]]))
"""


def test_a_pack_that_was_killed_goes_on_to_the_same_bytes(photos, tmp_path, capsys):
    folder = tmp_path / "out"
    folder.mkdir()
    for left in (5, 9):
        ended = subprocess.run(
            [sys.executable, "-c", RUNNER, str(photos), str(folder)],
            env={**os.environ, "LEFT": str(left), "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert not list(folder.glob("*.pack"))
    assert "going on with" in ended.stdout
    with pytest.raises(TapetumError, match="half a pack of other images or settings"):
        tapetum.pack(photos, out=str(folder), size=9)
    capsys.readouterr()
    tapetum.pack(photos, out=str(folder), size=8)
    assert f"going on with {folder}/photos.pack at image " in capsys.readouterr().out
    tapetum.pack(photos, out=str(tmp_path / "whole"), size=8)
    one, other = folder / "photos.pack", tmp_path / "whole.pack"
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in (one, other)] == 2 * [
        hashlib.sha256(one.read_bytes()).hexdigest()
    ]
    assert [path.name for path in folder.iterdir()] == ["photos.pack"]


def test_images_of_which_none_can_be_read_leave_nothing(write, png, tmp_path):
    root = write({f"{i}.png": png(i)[:60] for i in range(3)})
    with pytest.raises(TapetumError, match="none of the 3 images of photos can be read"):
        tapetum.pack(root, out=str(tmp_path / "p"))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
