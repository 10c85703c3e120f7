"""The demo from end to end on a stand-in for its photographs, and what it says while it runs."""

import importlib
import shlex

import numpy as np
import pytest
from PIL import Image

from tapetum import cli
from tapetum.base import settings
from tapetum.base.errors import TapetumError
from tapetum.verbs import VERBS

demo = importlib.import_module("tapetum.demo")  # `tapetum.demo` by itself is the verb
QUICK = {**demo.PRETRAIN, "image_size": 32, "batch_size": 8, "steps": 2, "precision": "fp32"}


QUICK_EVALUATE = {
    "protocols": ("knn", "fewlabels"),
    "metric": "auroc",
    "duplicates": False,
    "protocol_settings": {"fewlabels": {"counts": (4,), "shares": (), "heads": ("knn",)}},
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package laid out like elpv-dataset, with 60 small cells of which a third is defective."""
    images = tmp_path / "site" / "elpv_dataset" / "data" / "images"
    images.mkdir(parents=True)
    (tmp_path / "site" / "elpv_dataset" / "__init__.py").write_text("")
    rng, rows = np.random.default_rng(0), []
    for i in range(60):
        bad = i % 3 == 0
        pixels = rng.integers(100, 200, (40, 40), dtype=np.uint8)
        pixels[10:20] -= 90 * bad
        Image.fromarray(pixels).save(images / f"cell{i:04}.png")
        rows.append(f"images/cell{i:04}.png  {(0.6666 if bad else 0.3333):.4f}                 mono\n")
    (images.parent / "labels.csv").write_text("".join(rows))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(demo, "HELD_OUT", 20)
    monkeypatch.setattr(demo, "public_weights", lambda: None)
    monkeypatch.setattr(demo, "EVALUATE", QUICK_EVALUATE)


def test_cells_are_parted_once_and_by_class(package, tmp_path, capsys):
    folder = demo.photographs(tmp_path / "cells")
    counts = {str(p.relative_to(folder)): len(list(p.iterdir())) for p in folder.glob("*/*")}
    assert counts == {"train/sound": 27, "train/defective": 13, "test/sound": 13, "test/defective": 7}
    assert "CC BY-NC-SA 4.0" in capsys.readouterr().out
    (folder / "train" / "sound").rename(folder / "kept")
    assert demo.photographs(folder) == folder and (folder / "kept").exists()


def test_without_the_photographs_one_sentence_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TapetumError, match="pip install elpv-dataset"):
        demo.photographs(tmp_path / "cells")
    assert demo.public_weights() is None


def test_the_demo_ends_with_a_table_a_picture_and_results(package, tmp_path, capsys):
    out = tmp_path / "demo"
    answer = demo.demo(out, QUICK)
    said = capsys.readouterr().out
    rows = {(r["row"], r["name"]) for r in answer["results"]}
    names = ("knn auroc", "knn auroc, 4 labels a class")
    assert rows == {(row, name) for row in ("pixels", "random weights", "encoder") for name in names}
    assert all(r["n"] == 20 and 0 <= r["value"] <= 1 for r in answer["results"])
    table = said[said.index("AUROC for defective cells") :]
    assert all(row in table for row in ("pixels", "random weights", "encoder"))
    assert (out / "results.json").exists() and (out / "run" / "encoder.safetensors").exists()
    assert Image.open(out / "neighbours.png").format == "PNG"
    again = demo.demo(out, QUICK)
    assert [r["value"] for r in again["results"]] == [r["value"] for r in answer["results"]]


@pytest.mark.parametrize(("verb", "calls"), [("pretrain", demo.PRETRAIN), ("evaluate", demo.EVALUATE)])
def test_the_commands_shown_are_the_calls_made(capsys, tmp_path, verb, calls):
    wanted = {"data": str(tmp_path), "out": str(tmp_path / "run")} if verb == "pretrain" else {}
    wanted |= {} if verb == "pretrain" else {"encoder": str(tmp_path), "train_data": str(tmp_path)}
    demo.shown(verb, tmp_path, **{k: v for k, v in wanted.items() if k in ("out", "train_data")}, **calls)
    command = capsys.readouterr().out.strip().removeprefix("$ ")
    _, given = cli.read(shlex.split(command)[1:])
    typed = settings.check("setting", given, VERBS[verb])
    for name, value in settings.check("setting", wanted | calls, VERBS[verb]).items():
        if name.endswith("_settings"):
            read = {k: settings.guess(v) for k, v in flat(typed[name]).items()}
            assert {
                k: v if isinstance(v, tuple) else (v,) for k, v in read.items() if v not in ("", ("",))
            } == {k: v if isinstance(v, tuple) else (v,) for k, v in flat(value).items() if v != ()}
        else:
            assert typed[name] == value


def flat(tree: dict) -> dict:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    return {
        f"{k}.{n}" if isinstance(v, dict) else k: x
        for k, v in tree.items()
        for n, x in (v.items() if isinstance(v, dict) else [("", v)])
    }
