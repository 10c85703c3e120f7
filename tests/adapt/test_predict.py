"""Tables of predictions: the same rows in every format, damaged images and unknown classes among them."""

import csv
import json

import numpy as np
import pytest

from tapetum.adapt.fit import fit
from tapetum.adapt.predict import WRITERS, predict
from tapetum.base.errors import TapetumError

COLUMNS = ["path", "class", "probability", "unlike", "reason"]


@pytest.fixture(scope="module")
def made(photos, encoder):
    return fit(encoder, photos, repeats=1)


@pytest.fixture
def data(write, tmp_path):
    """New images of two classes that are known and of one that is not, and one that is cut off."""
    folder = write(tmp_path / "data", {"blue": 3, "red": 3, "black": 4}, seed=3)
    bad = folder / "red" / "001.png"
    bad.write_bytes(bad.read_bytes()[:60])
    return folder


def read(path):
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_every_image_is_a_row_in_the_order_of_the_paths(made, data, tmp_path):
    found = predict(made, data, tmp_path / "p.csv")
    rows = read(tmp_path / "p.csv")
    assert list(rows[0]) == COLUMNS
    assert [row["path"] for row in rows] == sorted(str(f.relative_to(data)) for f in data.rglob("*.png"))
    bad = next(row for row in rows if row["path"] == "red/001.png")
    assert bad["class"] == bad["probability"] == bad["unlike"] == "" and bad["reason"]
    good = [row for row in rows if row is not bad]
    said = made.predict([data / row["path"] for row in good])
    assert [row["class"] for row in good] == said.names
    assert np.allclose([float(row["probability"]) for row in good], said.probability, atol=1e-5)
    assert [row["unlike"] for row in good] == [str(bool(far)).lower() for far in said.unlike]
    assert found["images"] == 10 and found["unreadable"] == 1 and found["unlike"] == said.unlike.sum() >= 4
    assert sum(found["classes"].values()) == 9


def test_probabilities_and_labels_are_further_columns(made, data, tmp_path):
    predict(made, data, tmp_path / "p.csv", labels="folders", probabilities=True)
    rows = read(tmp_path / "p.csv")
    assert list(rows[0]) == [*COLUMNS, "label", "p(blue)", "p(green)", "p(red)"]
    for row in rows:
        assert row["label"] == row["path"].split("/")[0]
        if row["class"]:
            each = {name: float(row[f"p({name})"]) for name in ("blue", "green", "red")}
            assert sum(each.values()) == pytest.approx(1, abs=1e-4)
            assert each[row["class"]] == max(each.values()) == float(row["probability"])
        else:
            assert row["p(red)"] == ""


def test_formats_hold_the_same(made, data, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for suffix in ("csv", "jsonl", "parquet"):
        predict(made, data, tmp_path / f"p.{suffix}", labels="folders", probabilities=True)
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert parquet.read_table(tmp_path / "p.parquet").to_pylist() == lines
    assert [row["class"] or "" for row in lines] == [row["class"] for row in read(tmp_path / "p.csv")]
    assert {type(row["unlike"]) for row in lines} == {bool, type(None)}


def test_names_that_are_no_utf8_are_spelt_out_in_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    found = {"path": ["a\udcff.jpg", "b"], "class": [None, "\udcff"], "p(\udcff)": [None, 0.5]}
    WRITERS[".parquet"](tmp_path / "p.parquet", found)
    rows = parquet.read_table(tmp_path / "p.parquet").to_pydict()
    assert rows == {"path": ["a\\udcff.jpg", "b"], "class": [None, "\\udcff"], "p(\\udcff)": [None, 0.5]}


def test_with_labels_the_accuracy_is_said_and_classes_unknown_count_as_wrong(made, data, tmp_path, capsys):
    found = predict(made, data, tmp_path / "p.csv", labels="folders")
    rows = [row for row in read(tmp_path / "p.csv") if row["class"]]
    assert found["accuracy"] == pytest.approx(np.mean([row["class"] == row["label"] for row in rows]))
    assert found["unknown classes"] == 4 and found["interval"][0] < found["accuracy"] < found["interval"][1]
    out = capsys.readouterr().out
    assert "4 images of classes that it does not know count as wrong (black); 100% of them are flagged" in out
    assert "1 images cannot be read; the first, red/001.png" in out


def test_nothing_is_overwritten_unless_asked(made, data, tmp_path):
    out = tmp_path / "p.csv"
    out.write_text("mine")
    with pytest.raises(TapetumError, match="exists already"):
        predict(made, data, out)
    assert out.read_text() == "mine"
    predict(made, data, out, overwrite=True)
    assert len(read(out)) == 10


def test_names_that_need_quotes(made, write, tmp_path):
    folder = write(tmp_path / "data", {"blue": 1})
    (folder / "blue" / "000.png").rename(folder / "blue" / 'a, "b"\n.png')
    predict(made, folder, tmp_path / "p.csv")
    assert read(tmp_path / "p.csv")[0]["path"].endswith('a, "b"\n.png')
