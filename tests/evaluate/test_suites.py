"""Suites: those of the package name what there is, and run on the sets that are there."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from tapetum import cli
from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.evaluate import suites
from tapetum.evaluate.result import read_results
from tapetum.evaluate.run import evaluate
from tapetum.evaluate.suites import DATA
from tapetum.evaluate.targets import Kind
from tapetum.features import in_order


def tree(name: str) -> dict:
    return yaml.safe_load((suites.HERE / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", suites.names())
def test_a_suite_of_the_package_is_whole(name):
    found, read = tree(name), suites.read([name])
    assert {"about", "protocols"} <= set(found) <= {"about", "protocols", "data"}
    named = [item if isinstance(item, str) else item["protocol"] for item in found["protocols"]]
    assert [entry.name for entry in read.entries] == named
    rows = found.get("data") or []
    for row in rows:
        assert set(row) <= set(DATA) and set(row.get("protocols", named)) <= set(named)
        assert row.get("label_kind", "class") in Kind.__args__
        assert not Path(row["train"]).is_absolute()
    assert len({(row["train"], row.get("train_images")) for row in rows}) == len(rows)
    assert len({row["name"] for row in rows}) == len(rows)
    assert read.data == [row | {"root": None} for row in rows]
    outline = suites.outline(name)
    assert outline["protocols"] == named and len(outline["data"]) == len(rows)
    assert outline["what"].endswith(".")


def test_vtab_has_its_sets_in_their_groups():
    rows = tree("vtab")["data"]
    assert Counter(row["group"] for row in rows) == {"natural": 7, "specialised": 4, "structured": 8}
    assert {row["train_images"] for row in rows} == {1000}


def test_the_list_shows_suites_and_each_says_what_it_holds(capsys):
    assert cli.main(["protocols"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name} " in out for name in suites.names())
    assert cli.main(["protocols", "concepts"]) == 0
    out = capsys.readouterr().out
    assert "Concept generalisation" in out and "level 5  unseen" in out
    assert cli.main(["protocols", "vtap"]) == 2


# ---- running ----


@pytest.fixture
def packaged(monkeypatch, tmp_path):
    """A suite as the package holds them."""
    folder = tmp_path / "suites"
    folder.mkdir()
    monkeypatch.setattr(suites, "HERE", folder)

    def write(text: str, name: str = "mine") -> str:
        (folder / f"{name}.yaml").write_text(text)
        return name

    return write


def test_sets_that_are_there_are_measured_and_the_others_are_named(
    packaged, images, write_images, encoder, tmp_path, capsys
):
    for name in ("cells", "cats"):
        write_images(tmp_path / "all" / name / "train", 4, seed=len(name))
        write_images(tmp_path / "all" / name / "test", 3, seed=9)
    suite = packaged(
        "about: Two of three.\nprotocols: [knn, logistic]\ndata:\n"
        "- {name: Cells, group: small, train: cells, protocols: [knn]}\n"
        "- {name: Dogs, train: dogs}\n- {train: cats, group: furry, test: cats}\n"
    )
    out = tmp_path / "r.json"
    found = evaluate(encoder, tmp_path / "all", protocols=[suite], baselines=False, out=out)
    printed = capsys.readouterr().out
    assert (
        "Two of three." in printed and "1 data sets of the suite are not in" in printed and "Dogs" in printed
    )
    about = [(r.name, r.about["set"], r.about["group"], r.about["encoder"]) for r in found]
    assert about == [
        ("knn accuracy", "Cells", "small", "small"),
        ("knn accuracy", "cats", "furry", "small"),
        ("logistic accuracy", "cats", "furry", "small"),
    ]
    assert read_results(out) == found and [r.about for r in read_results(out)] == [r.about for r in found]
    with pytest.raises(TapetumError, match="holds none of the suite's data sets: Cells, Dogs, cats"):
        evaluate(encoder, images, protocols=[suite], baselines=False)


def test_a_budget_of_labels_uses_the_callers_own_parts(packaged, images, write_images, encoder, tmp_path):
    suite = packaged(
        "protocols: [knn]\ndata:\n- {name: six, train: ., train_images: 6}\n- {name: all, train: .}\n"
    )
    test = write_images(tmp_path / "test", 5, seed=3)
    few, every = evaluate(encoder, images, test, protocols=[suite], baselines=False)
    assert (few.about["set"], few.protocol["train"]["images"], few.n) == ("six", 6, 15)
    assert (every.about["set"], every.protocol["train"]["images"], every.n) == ("all", 24, 15)
    assert few.protocol_id != every.protocol_id
    [plain] = evaluate(encoder, images, test, protocols=["knn"], baselines=False)
    assert plain.protocol_id == every.protocol_id, "what a set is called is in no id"
    assert plain.about["set"] == open_data(test).name


def test_each_suite_finds_its_sets_beside_itself(packaged, write_images, encoder, tmp_path):
    """One suite of the package between two of somebody's own, whose sets have the same names."""
    for seed, folder in enumerate(("one", "two", "data")):
        write_images(tmp_path / folder / "cats" / "train", 4, seed=seed)
        write_images(tmp_path / folder / "cats" / "test", 3, seed=seed + 9)
    for folder in ("one", "two"):
        text = f"protocols: [knn]\ndata: [{{name: '{folder}', train: cats/train, test: cats/test}}]\n"
        (tmp_path / folder / "suite.yaml").write_text(text)
    middle = packaged("protocols: []\ndata: [{name: data, train: cats/train, test: cats/test}]\n")
    asked = [str(tmp_path / "one" / "suite.yaml"), middle, str(tmp_path / "two" / "suite.yaml")]
    found = evaluate(encoder, tmp_path / "data", protocols=asked, baselines=False)
    judged = {r.about["set"]: r.protocol["test"]["data"] for r in found}
    wanted = {
        n: in_order(open_data(tmp_path / n / "cats" / "test")).fingerprint() for n in ("one", "data", "two")
    }
    assert judged == wanted


def test_what_is_wrong_in_a_suite_is_said(packaged):
    for text, words in (
        (
            "protocols: [knn]\ndata:\n- {train: x, protocols: [linear]}",
            "unknown protocol of a data set.*'linear'",
        ),
        ("protocols: [knn]\ndata:\n- {train: x, sets: 1}", "unknown key of data in"),
        ("protocols: [knn]\ndata:\n- {name: x}", "names at least 'train'"),
        ("protocols: [knn]\ndata:\n- {train: 2019}", "train of an entry of data is text, in quotes"),
        ("protocols: [knn]\ndata:\n- {train: }", "train of an entry of data is text, .* not None"),
        ("protocols: [knn]\ndata:\n- {train: x, name: 2019}", "name of .* is text, .* not 2019"),
        ("protocols: [knn]\ndata:\n- {train: x, train_images: all}", "train_images of .* is a whole number"),
        ("protocols: [knn]\ndata:\n- {train: x, protocols: [[knn]]}", "are a list of names"),
        ("protocols: [knn]\nabout: x\nwhy: y", "unknown key in .* 'why'"),
    ):
        with pytest.raises(TapetumError, match=words):
            suites.read([packaged(text)])
    assert suites.read([packaged("protocols: [knn]\nabout: |\n  One\n  line.\ndata:\n")]).about == "One line."
