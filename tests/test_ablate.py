"""Ablation: what is varied, refused before the first run, kept when it is killed, and shown."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import small_runs
import tapetum
from tapetum import ablation, cli
from tapetum.base.errors import TapetumError, TrainingFailed
from tapetum.train import config
from tapetum.train.sandbox import easy_images

BASE: dict[str, Any] = {n: v for n, v in small_runs.SMALL.items() if n != "log_every"}
BASE |= {"steps": 2, "workers": 0, "protocols": ("knn",)}
VARY = ["method.temperature=0.1,0.5", "encoder.channels=8,8,8,8;4,8,8,16"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """48 small images in four class folders."""
    folder = tmp_path_factory.mktemp("photos")
    for i, (pixels, label) in enumerate(zip(*easy_images(48))):
        (folder / str(label)).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / str(label) / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def done(photos, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A finished grid of two by two, and its answer."""
    out = tmp_path_factory.mktemp("done") / "grid"
    own = {n: v for n, v in BASE.items() if n != "encoder_settings"}
    return out, tapetum.ablate(photos, out=str(out), vary=VARY, **own)


def knn(row: dict) -> dict:
    (number,) = [number for title, number in row["numbers"].items() if title.startswith("knn accuracy")]
    return number


def test_all_combinations_are_trained_and_measured(done):
    out, answer = done
    assert [row["replaced"] for row in answer["rows"]] == [
        {"method.temperature": t, "encoder.channels": c}
        for t in ("0.1", "0.5")
        for c in ("8,8,8,8", "4,8,8,16")
    ]
    for row in answer["rows"]:
        (run,) = map(Path, row["runs"])
        saved = config.read(run / "config.yaml")
        assert saved["steps"] == 2 and saved["method.hidden"] == 16
        assert saved["method.temperature"] == float(row["replaced"]["method.temperature"])
        assert saved["encoder.channels"] == [int(c) for c in row["replaced"]["encoder.channels"].split(",")]
        number = knn(row)
        assert number["each"] == [number["value"]] and 0 <= number["random_weights"] <= 1
    assert json.loads((out / "ablation.json").read_text()) == answer
    random = [knn(row)["random_weights"] for row in answer["rows"]]
    assert random[:2] == random[2:]  # one for each network, measured once


def test_random_weights_are_measured_once_a_network(done):
    _, answer = done
    rows = [json.loads((Path(row["runs"][0]) / "measured.json").read_text()) for row in answer["rows"]]
    there = ["random weights" in [r["row"] for r in one["results"]] for one in rows]
    assert there == [True, True, False, False]


def test_what_is_done_stays_and_what_is_not_is_done(done, photos, tmp_path, monkeypatch):
    """As after a kill: two runs are whole, the third has begun, the fourth was never there."""
    before, answer = done
    out = tmp_path / "grid"
    shutil.copytree(before, out)
    third, fourth = (out / Path(row["runs"][0]).relative_to(before) for row in answer["rows"][2:])
    for name in ("encoder.safetensors", "encoder.json", "measured.json", "results.json"):
        (third / name).unlink()
    shutil.rmtree(fourth.parent)
    kept = {p: p.stat().st_mtime_ns for row in answer["rows"][:2]
            for p in (out / Path(row["runs"][0]).relative_to(before)).rglob("*")}  # fmt: skip
    began = []
    pretrain = ablation.pretrain

    def counted(data, run, seed, flat):
        began.append(run)
        pretrain(data, run, seed, flat)

    monkeypatch.setattr(ablation, "pretrain", counted)
    own = {n: v for n, v in BASE.items() if n != "encoder_settings"}
    again = tapetum.ablate(photos, out=str(out), vary=VARY, **own)
    assert began == [third, fourth]
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert [row["numbers"] for row in again["rows"]] == [row["numbers"] for row in answer["rows"]]
    with pytest.raises(TapetumError, match="began with other settings"):
        tapetum.ablate(photos, out=str(out), vary=VARY, **own | {"method_settings": {"hidden": 8, "dim": 8}})


def test_one_at_a_time_over_seeds(photos, tmp_path, monkeypatch, capsys):
    """Trainings and measurements by hand: the base, and each value alone; means and errors over seeds."""
    asked = []

    def trained(data, run, seed, flat):
        asked.append((flat["method"], flat.get("batch_size"), flat.get("views.flip"), seed))
        if flat.get("views.flip") == "0.3" and seed == 1:
            raise TrainingFailed("the loss is not finite.")
        run.mkdir(parents=True)
        for name in ("encoder.safetensors", "encoder.json"):
            (run / name).write_text('{"digest": ""}')

    def measured(data, run, flat, how, baselines):
        value = 0.5 + 0.1 * run.name.endswith("1") + 0.2 * (flat["batch_size"] == "8")
        rows = [("encoder", value), *([("random weights", 0.25)] if baselines else [])]
        facts = (0.01, (0, 1), "images", 48, [0], {"p": 1}, {})
        return [ablation.Result("knn accuracy", value, *facts, row) for row, value in rows]

    monkeypatch.setattr(ablation, "pretrain", trained)
    monkeypatch.setattr(ablation, "measured", measured)
    answer = tapetum.ablate(
        photos,
        out=str(tmp_path / "out"),
        vary=["batch_size=8", "views.flip=0,0.3"],
        one_at_a_time=True,
        seeds=(0, 1),
        **BASE,
    )
    cells = [(16, None), ("8", None), (16, "0"), (16, "0.3")]
    assert asked == [("simclr", *cell, seed) for cell in cells for seed in (0, 1)]
    found = [row["numbers"]["knn accuracy"] for row in answer["rows"]]
    assert [n["value"] for n in found] == pytest.approx([0.55, 0.75, 0.55, 0.5])
    assert [n["error"] for n in found] == pytest.approx([0.05, 0.05, 0.05, 0.01])
    assert answer["rows"][3]["failed"] == ["seed 1: the loss is not finite."]
    said = capsys.readouterr()
    table = [line.split() for line in said.out.splitlines() if "±" in line]
    assert table[0][:8] == ["base", "base", "0.550", "±", "0.050", "0.250", "±", "0.010"]
    assert table[1][:3] == ["8", "base", "0.750"] and "over 2 seeds" in said.out
    assert "the loss is not finite" in said.err


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["--vary", "method.temprature=1,2"], "unknown setting of SimCLR 'temprature'; did you mean"),
        (["--vary", "method.temperature=1,hot"], "method.temperature is 'hot'"),
        (["--vary", "encoder=resnet10_w32,resnt18"], "unknown encoder 'resnt18'; did you mean 'resnet18'?"),
        (["--vary", "method=simclr,byool"], "unknown method 'byool'; did you mean 'byol'?"),
        (["--vary", "method=simclr,mae"], "MAE needs tokens"),
        (["--vary", "views.crp.scale=0.1,1"], "unknown view setting 'crp.scale'"),
        (["--vary", "optimizer.lr=fast"], "optimizer.lr is 'fast'"),
        (["--vary", "batch_size=16,17x"], "batch_size is '17x'"),
        (["--vary", "batch-size=16,4000"], "batch_size is 4000, but there are only 48 images."),
        (["--vary", "methd.temperature=1"], "unknown setting to vary 'methd.temperature'"),
        (["--vary", "seed=1,2"], "unknown setting to vary 'seed'"),
        (["--vary", "method.temperature"], "lacks a value"),
        (["--vary", "method.temperature=0.1,,0.2"], "lacks a value"),
        (["--vary", "method.dim=8,8"], "twice"),
        (["--vary", "epochs=1,2"], "either --epochs or --steps"),
        (["--vary", "method.dim=8", "--protocols", "knm"], "unknown protocol or suite 'knm'"),
        (["--vary", "method.dim=8", "--knn.kk", "3"], "unknown setting of knn 'kk'"),
        ([], "ablate needs vary"),
    ],
)
def test_what_is_wrong_is_refused_before_the_first_run(photos, tmp_path, capsys, typed, says):
    command = ["ablate", str(photos), "--out", str(tmp_path / "out"), "--steps", "2", *typed]
    command += ["--encoder", "resnet10_w32"]
    assert cli.main(command) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_images_without_labels_are_refused(photos, tmp_path):
    shutil.copytree(photos / "0", tmp_path / "flat")
    with pytest.raises(TapetumError, match="no labels to measure by"):
        own = BASE | {"batch_size": 4}
        tapetum.ablate(tmp_path / "flat", out=str(tmp_path / "out"), vary=["method.dim=8"], **own)


def test_typed_several_times_with_groups_of_runs_and_of_protocols():
    typed = "ablate DATA --vary a=1,2 --out O --vary=b=3;4,5 --method.dim 8 --knn.k 5"
    verb, given = cli.read(typed.split())
    assert verb == "ablate" and given["vary"] == ["a=1,2", "b=3;4,5"]
    assert given["method_settings"] == {"dim": "8"} and given["protocol_settings"] == {"knn": {"k": "5"}}


def test_values_with_commas_and_folders():
    factors = ablation.read(["views.crop.scale=0.1,1; 0.4,1", "batch-size=8", "views.jitter.hue=0.1,0.2;"])
    hue = factors.pop("views.jitter.hue")
    assert factors == {"views.crop.scale": ["0.1,1", "0.4,1"], "batch_size": ["8"]} and hue == ["0.1,0.2"]
    assert [c.folder for c in ablation.grid(factors)] == [
        "views.crop.scale=0.1,1,batch_size=8",
        "views.crop.scale=0.4,1,batch_size=8",
    ]
    odd = [ablation.Cell({"method.momentum": v}).folder for v in ("0.9->1", "0.9/>1")]
    assert len(set(odd)) == 2 and all(set(name) <= set("method.momentum=0_-19abcdef2345678") for name in odd)


def test_a_run_is_measured_anew_only_where_something_else_is_asked(done, tmp_path, monkeypatch):
    _, answer = done
    run = tmp_path / "run"
    shutil.copytree(answer["rows"][2]["runs"][0], run)  # its network's random weights stand with another run
    asked = []
    monkeypatch.setattr(ablation.verbs, "evaluate", lambda run, **given: asked.append(given) or [])
    how = {"protocols": ["knn"], "protocol_settings": {}}
    assert [r.row for r in ablation.measured("DATA", run, {}, how, False)] == ["encoder"] and not asked
    other = {**how, "protocol_settings": {"knn": {"k": (5,)}}}
    cases = [({}, how, True), ({"test_data": "T"}, how, False), ({"test_data": "T"}, other, False)]
    for flat, how, baselines in cases:
        ablation.measured("DATA", run, flat, how, baselines)
    assert [(c["baselines"], c.get("test_data")) for c in asked] == [(True, None), (False, "T"), (False, "T")]
    ablation.measured("DATA", run, *cases[-1])
    assert len(asked) == 3
