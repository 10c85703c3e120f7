"""An encoder is measured beside its baselines, on the parts that the data have or that are held out."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.encoders import Encoder, build
from tapetum.evaluate import baselines
from tapetum.evaluate.embed import as_table, embed
from tapetum.evaluate.neighbours import OTHER, SAME, TILE, nearest, neighbours_png
from tapetum.evaluate.result import comparable, read_results
from tapetum.evaluate.run import evaluate
from tapetum.features import Extractor


@pytest.fixture
def parted(images, write_images, tmp_path):
    """train/ and test/ folders."""
    folder = tmp_path / "parted"
    write_images(folder / "train", 8)
    write_images(folder / "test", 4, seed=1)
    return folder


@pytest.fixture
def run(tmp_path):
    """A finished run that began from a file of weights."""
    torch.manual_seed(3)
    first = build("resnet10_w32", 16)
    first.save(tmp_path / "first")
    trained = build("resnet10_w32", 16, weights=str(tmp_path / "first"))
    with torch.no_grad():
        for p in trained.parameters():
            p.add_(0.01)
    trained.save(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("method: simclr\n")
    return tmp_path / "run"


def rows(results, protocol="knn"):
    return {r.row: r for r in results if r.protocol["name"] == protocol}


def test_a_run_is_measured_beside_all_its_baselines(parted, run, capsys):
    results = evaluate(str(run), parted)
    printed = capsys.readouterr().out
    for protocol in ("knn", "logistic"):
        found = rows(results, protocol)
        assert list(found) == ["encoder", "start", "random weights", "pixels"]
        assert len({r.subject_id for r in comparable(found.values())}) == 4
        assert {r.n for r in found.values()} == {12}
    assert read_results(run / "results.json") == results
    head = next(line for line in printed.splitlines() if line.strip().startswith("pixels"))
    assert head.split() == ["pixels", "random", "weights", "start", "encoder"]
    line = next(line for line in printed.splitlines() if line.startswith("knn accuracy"))
    values = [rows(results)[name].value for name in ("pixels", "random weights", "start", "encoder")]
    assert [float(part) for part in line.replace("knn accuracy", "").split()[::3]] == [
        round(v, 3) for v in values
    ]
    assert {r.cost["parameters"] for r in results if r.row != "pixels"} == {results[0].cost["parameters"]}
    assert "random weights drawn with seed 0" in printed


def test_baselines_are_what_they_say(parted, run):
    found = rows(evaluate(str(run), parted, protocols=["knn"]))
    first = build("resnet10_w32", 16, weights=str(run.parent / "first"))
    assert found["start"].subject["weights"] == first.digest()
    assert found["random weights"].subject["weights"] == baselines.random_weights(first, 0).digest()
    assert baselines.random_weights(first, 1).digest() != baselines.random_weights(first, 0).digest()
    source = open_data(parted, split="test")
    plain = Extractor(baselines.pixels()).features(source).x
    image = np.asarray(
        Image.open(parted / "test" / source.paths[0]).resize((32, 32), Image.Resampling.BILINEAR)
    )
    np.testing.assert_allclose(plain[0], image.transpose(2, 0, 1).reshape(-1) / 127.5 - 1, atol=1e-6)


def test_lost_starting_weights_are_said_and_the_rest_goes_on(parted, run, capsys):
    shutil.rmtree(run.parent / "first")
    found = rows(evaluate(str(run), parted, protocols=["knn"]))
    assert list(found) == ["encoder", "random weights", "pixels"]
    assert "are not measured" in capsys.readouterr().err


def test_kinds_of_labels_through_the_whole_way(images, encoder, tmp_path):
    paths = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    many = [f"{path},{path.split('/')[0]};{'even' if i % 2 else 'odd'}" for i, path in enumerate(paths)]
    numbers = [f"{path},{len(path.split('/')[0])}.5" for path in paths]
    settings = {"protocols": ["knn", "logistic"], "baselines": False}
    for kind, metric, rows in (("classes", "mean_average_precision", many), ("number", "r2", numbers)):
        (tmp_path / f"{kind}.csv").write_text("\n".join(["path,label", *rows]))
        results = evaluate(encoder, images, labels=tmp_path / f"{kind}.csv", label_kind=kind, **settings)
        assert [r.protocol["metric"] for r in results] == [metric, metric]
        assert all(r.n == 24 and np.isfinite(r.value) for r in results)


def test_an_encoder_that_is_its_own_baseline_stands_once(parted):
    results = evaluate("random:resnet10_w32", parted, protocols=["knn"], image_size=16)
    assert list(rows(results)) == ["encoder", "pixels"]


def test_without_test_data_all_images_are_judged_in_turn(images, encoder, tmp_path, capsys):
    results = evaluate(encoder, images, protocols=["knn"], out=tmp_path / "r.json", baselines=False)
    assert [r.n for r in results] == [24]
    assert results[0].protocol["split"] == "5 x 5 folds, stratified, seed 0"
    assert "5 x 5 folds" in capsys.readouterr().out
    evaluate(encoder, images, protocols=["knn"], out=tmp_path / "r.json", baselines=False, seed=1)
    evaluate(encoder, images, protocols=["knn"], out=tmp_path / "r.json", baselines=False, repeats=2)
    kept = read_results(tmp_path / "r.json")
    assert len({r.protocol_id for r in kept}) == 3 and len({r.subject_id for r in kept}) == 1
    with np.load(tmp_path / "r" / f"{kept[0].protocol_id}-{kept[0].subject_id}.npz") as file:
        assert file["answers"].shape == (5, 24) and file["paths"][0] == "blue/00.png"


def test_groups_of_a_column_are_never_parted(images, encoder, tmp_path):
    paths = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    rows = [f"{path},{path.split('/')[0]},p{i // 2}" for i, path in enumerate(paths)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,patient", *rows]))
    settings = {"labels": tmp_path / "labels.csv", "protocols": ["knn"], "baselines": False}
    (result,) = evaluate(encoder, images, **settings, group_by="patient")
    fold = result.answers.fold
    assert (fold[:, 0::2] == fold[:, 1::2]).all() and "never splitting patient" in result.protocol["split"]
    (plain,) = evaluate(encoder, images, **settings)
    assert (plain.answers.fold[:, 0::2] != plain.answers.fold[:, 1::2]).any()
    with pytest.raises(TapetumError, match="unknown column of images 'pateint'; did you mean 'patient'"):
        evaluate(encoder, images, **settings, group_by="pateint")


def test_separate_test_data_use_their_test_part(parted, images, encoder):
    (given,) = evaluate(encoder, parted, parted, protocols=["knn"], baselines=False)
    (found,) = evaluate(encoder, parted, protocols=["knn"], baselines=False)
    (apart,) = evaluate(encoder, parted / "train", parted / "test", protocols=["knn"], baselines=False)
    assert given == found == apart
    (other,) = evaluate(encoder, images, parted, protocols=["knn"], baselines=False)
    assert other.protocol["train"]["data"] == given.protocol["train"]["data"], "the same images elsewhere"


def test_asked_twice_nothing_is_computed_and_the_numbers_are_the_same(parted, encoder, monkeypatch):
    few = {"fewlabels": {"counts": [2], "shares": [], "heads": ["knn", "logistic"]}}
    settings = {"protocols": ["knn", "logistic", "fewlabels"], "protocol_settings": few, "baselines": False}
    first = evaluate(encoder, parted, **settings)
    monkeypatch.setattr(Extractor, "_fill", lambda *a, **k: pytest.fail("computed again"))
    assert evaluate(encoder, parted, **settings, batch_size=5, workers=1) == first
    assert [r.name for r in first] == [
        "knn accuracy",
        "logistic accuracy",
        "knn accuracy, 2 labels a class",
        "logistic accuracy, 2 labels a class",
    ]


def test_what_was_measured_before_a_failure_is_kept(parted, run, monkeypatch):
    monkeypatch.setattr(baselines, "pixels", lambda form: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(str(run), parted, protocols=["knn"])
    assert list(rows(read_results(run / "results.json"))) == ["encoder", "start", "random weights"]


def test_bad_input_is_refused_before_the_work(parted, images, encoder, tmp_path, monkeypatch):
    with pytest.raises(TapetumError, match="test data are the training data"):
        evaluate(encoder, images, images)
    monkeypatch.setattr(Extractor, "_fill", lambda *a, **k: pytest.fail("worked before it checked"))
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(TapetumError, match="not readable JSON"):
        evaluate(encoder, parted, out=tmp_path / "results.json")
    with pytest.raises(TapetumError, match="did you mean 'knn'"):
        evaluate(encoder, parted, protocols=["knnn"])
    with pytest.raises(TapetumError, match="did you mean 'accuracy'"):
        evaluate(encoder, parted, metric="acuracy")
    with pytest.raises(TapetumError, match="have no labels"):
        evaluate(encoder, parted, labels="none")
    with pytest.raises(TapetumError, match=r"fewlabels\.counts is"):
        evaluate(encoder, parted, protocols=["fewlabels"], protocol_settings={"fewlabels": {"counts": [0]}})
    with pytest.raises(TapetumError, match="not among those that run"):
        evaluate(encoder, parted, protocol_settings={"fewlabels": {"counts": [1]}})
    with pytest.raises(TapetumError, match="with test data nothing is parted"):
        evaluate(encoder, parted, group_by="patient", duplicates=False)


@pytest.mark.parametrize("kind", [".npz", ".safetensors", ".parquet"])
def test_embed_writes_features_labels_and_paths(images, encoder, tmp_path, kind):
    (images / "red" / "07.png").write_bytes(b"damaged")
    out = tmp_path / f"features{kind}"
    found = embed(encoder, images, out)
    if kind == ".npz":
        with np.load(out) as file:
            x, paths, names = (
                file["features"],
                file["paths"].tolist(),
                file["classes"][file["labels"]].tolist(),
            )
    elif kind == ".safetensors":
        tensors = load_file(out)
        header = json.loads(out.read_bytes()[8 : 8 + int.from_bytes(out.read_bytes()[:8], "little")])
        facts = {name: json.loads(text) for name, text in header["__metadata__"].items()}
        x, paths = tensors["features"], facts["paths"]
        names = [facts["classes"][i] for i in tensors["labels"]]
    else:
        pa = pytest.importorskip("pyarrow.parquet")
        rows = pa.read_table(out).to_pydict()
        x, paths, names = np.array(rows["features"], np.float32), rows["path"], rows["label"]
    np.testing.assert_array_equal(x, found.x)
    assert x.dtype == np.float32 and np.isnan(x).all(1).sum() == 1
    assert len(paths) == 24 and names == [path.split("/")[0] for path in paths]
    with pytest.raises(TapetumError, match="exists already"):
        embed(encoder, images, out)
    assert len(embed(encoder, images / "red", out, overwrite=True)) == 8


def test_names_that_are_no_utf8_are_spelt_out_in_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    source = open_data(np.zeros((2, 8, 8, 3), np.uint8)).with_labels(["\udcff", None], "by hand")
    source.paths = ["a\udcff.jpg", "ö\t.jpg"]
    rows = as_table(np.zeros((2, 3), np.float32), source)
    parquet.write_table(rows, tmp_path / "a.parquet")
    found = parquet.read_table(tmp_path / "a.parquet").to_pydict()
    assert found["path"] == ["a\\udcff.jpg", "ö\t.jpg"] and found["label"] == ["\\udcff", None]


def test_embed_refuses_other_endings_before_the_work(images, encoder, tmp_path):
    with pytest.raises(TapetumError, match=r"unknown format '\.csv'"):
        embed(encoder, images, tmp_path / "features.csv")


def test_nearest_are_the_most_alike_without_the_query_itself():
    x = np.array([[1, 0], [2, 0.1], [0, 1], [np.nan, np.nan], [-1, -0.1]], dtype=np.float32)
    index, cosine = nearest(x, np.array([0, 2]), 3)
    assert index.tolist() == [[1, 2, 4], [1, 0, 4]]
    np.testing.assert_allclose(cosine[0], [np.cos(np.arctan(0.05)), 0, -np.cos(np.arctan(0.1))], atol=1e-6)


def test_the_picture_frames_neighbours_by_their_class(images, tmp_path):
    (images / "blue" / "00.png").write_bytes(b"damaged")
    found = Extractor(baselines.pixels()).features(open_data(images))
    neighbours_png(found, tmp_path / "near.png", queries=3, k=2)
    image = Image.open(tmp_path / "near.png")
    colours = {f"#{r:02x}{g:02x}{b:02x}": count for count, (r, g, b) in image.convert("RGB").getcolors(10**6)}
    frame = TILE * 4  # less would be a legend's square alone
    assert colours[SAME] > 6 * frame, "blue, green and red images find their like"
    assert colours.get(OTHER, 0) < frame
    neighbours_png(
        Extractor(baselines.pixels()).features(open_data(images, "none")),
        tmp_path / "plain.png",
        queries=2,
        k=100,
    )
    plain = Image.open(tmp_path / "plain.png").convert("RGB").getcolors(10**6)
    assert tuple(int(SAME[i : i + 2], 16) for i in (1, 3, 5)) not in {colour for _, colour in plain}


def test_the_encoder_of_a_module_has_no_random_twin(encoder, parted):
    assert isinstance(encoder, Encoder) and baselines.random_weights(encoder) is None
    assert list(rows(evaluate(encoder, parted, protocols=["knn"]))) == ["encoder", "pixels"]


def test_a_protocol_that_cannot_be_measured_is_left_out_and_said(images, encoder, capsys):
    shutil.rmtree(images / "green")
    results = evaluate(encoder, images, protocols=["knn", "unknown", "logistic"], baselines=False)
    assert [r.protocol["name"] for r in results] == ["knn", "logistic"]
    assert "encoder: unknown is left out: unknown keeps 1 of 2 classes" in capsys.readouterr().err
    with pytest.raises(TapetumError, match="keeps 1 of 2 classes"):
        evaluate(encoder, images, protocols=["unknown"], baselines=False)


def test_folds_need_no_error_of_their_own(images, encoder, monkeypatch):
    monkeypatch.setattr("tapetum.evaluate.answers.bootstrap", lambda *a: pytest.fail("drew for nothing"))
    (result,) = evaluate(encoder, images, protocols=["knn"], baselines=False)
    assert np.isfinite([result.error_bar, *result.interval]).all()
