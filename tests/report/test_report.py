"""The page of a run: what it says of runs of every kind, and that names are text."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import small_results
import tapetum
from small_pages import EVIL, Read
from small_runs import by_hand
from tapetum import cli
from tapetum.base.errors import TapetumError
from tapetum.data import far, open_data
from tapetum.evaluate.answers import Answers
from tapetum.evaluate.result import read_results
from tapetum.report import answered, atlas, charts, halfway, of_run, page, patches, story


@pytest.fixture
def work(measured) -> Path:
    return measured


def copied(work: Path, to: Path, *without: str) -> Path:
    """The run without some of its files."""
    shutil.copytree(work / "run", to)
    for name in without:
        (to / name).unlink()
    return to


def begun_from(run: Path, weights: Path | str) -> Path:
    """The run as if it had begun with these weights."""
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("weights: none", f"weights: {weights}"))
    return run


def aged(run: Path, seconds: float = 9999) -> Path:
    for file in run.glob("*.*"):
        then = file.stat().st_mtime - seconds
        os.utime(file, (then, then))
    return run


# ---- a whole run ----


def test_the_head_says_what_how_long_whether_healthy_and_how_good(work, whole):
    assert "simclr trained resnet10_w32 from random weights on" in whole.shown
    assert "for 6 steps of 16 images, 32 pixels a side" in whole.shown
    assert "The run is finished." in whole.shown
    assert "Health at step" in whole.shown or "The loss went from" in whole.shown
    results = {r.row: r for r in read_results(work / "run" / "results.json")}
    assert f"knn accuracy on photos: {results['encoder'].value:.3f} ±" in whole.shown
    assert f"where random weights have {results['random weights'].value:.3f} ±" in whole.shown


def test_every_part_is_there_and_nothing_is_asked_for_outside(whole):
    assert whole.ids() == [
        "training", "results", "map", "neighbours", "confusion", "views", "settings", "skipped",
    ]  # fmt: skip
    assert whole.outside() == [] and "http://" not in whole.content and "https://" not in whole.content
    captions = re.findall(r"<figcaption><b>([\w ]+)</b>", whole.content)
    assert {"loss", "knn", "rank", "lr"} <= set(captions)
    assert "broken.png" in whole.shown and "not an image, or its header is damaged" in whole.shown
    assert "method.temperature" in whole.shown


def test_names_are_text(whole):
    assert whole.handlers() == [] and EVIL in whole.shown
    assert not [own for tag, own in whole.elements if tag == "img" and own.get("src") == "x"]
    assert EVIL in whole.data["atlas-data"]["classes"]
    assert EVIL not in whole.content


def test_the_policy_allows_only_the_files_own_script(whole):
    [policy] = [own["content"] for tag, own in whole.elements if own.get("http-equiv")]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    style = (page.STATIC / "page.css").read_text()
    script = "\n".join((page.STATIC / name).read_text() for name in ("marks.js", "page.js", "lasso.js"))
    assert page._digest(script) in policy and page._digest(style) in policy
    assert f"<script>{script}</script>" in whole.content and not re.search(r'<[^>]* style="', whole.content)


def test_the_map_has_each_readable_image_with_its_answer_and_neighbours(work, whole):
    data = whole.data["atlas-data"]
    assert len(data["x"]) == 24 and all(
        len(data[name]) == 24 for name in ("y", "label", "said", "name", "near")
    )
    assert all(0 <= v <= 1000 for v in data["x"] + data["y"])
    encoder = tapetum.load(str(work / "run"))
    x = encoder.encode([work / "photos" / name for name in data["name"]])
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    likeness = x @ x.T - 9 * np.eye(24)
    assert [row[0] for row in data["near"]] == likeness.argmax(1).tolist()
    np.testing.assert_allclose([row[0] for row in data["likeness"]], likeness.max(1), atol=1e-3)
    assert [data["classes"][i] for i in data["label"]] == [name.split("/")[0] for name in data["name"]]
    [r] = [r for r in read_results(work / "run" / "results.json") if r.row == "encoder"]
    found = answered.read(work / "run" / "results.json", [r], [str(work / "photos")], "auto")
    assert found is not None
    at = {found.source.paths[row]: i for i, row in enumerate(found.rows)}
    said = [found.classes[found.said[at[name]]] for name in data["name"]]
    assert [data["classes"][i] for i in data["said"]] == said
    assert np.trace(found.counts) / found.counts.sum() == pytest.approx(r.value, abs=0.02)


def test_a_report_is_the_same_twice_and_is_replaced_only_in_the_run(work, whole, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert cli.main(["report", str(work / "run"), "--out", str(out)]) == 0
    assert Read(out).data == whole.data
    assert cli.main(["report", str(work / "run"), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["report", str(work / "run"), "--out", str(tmp_path / "page.pdf")]) == 2
    assert cli.main(["report", str(work / "photos")]) == 2
    assert "is not a run: it has no config.yaml" in capsys.readouterr().err


# ---- odd runs ----


def test_a_run_killed_half_way(work, tmp_path):
    run = copied(work, tmp_path / "run", "encoder.json", "encoder.safetensors", "results.json")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([*lines[:4], lines[4][:9]]))
    tapetum.report(str(aged(run)), out=str(tmp_path / "page.html"))
    found = Read(tmp_path / "page.html")
    assert re.search(r"stopped after step [123] of 6", found.shown) and "--resume" in found.shown
    assert (
        "The run is not finished: the network is that of its newest checkpoint, step 6 of 6." in found.shown
    )
    assert "It was not measured yet" in found.shown and "confusion" not in found.ids()
    assert "views" in found.ids() and len(found.data["atlas-data"]["x"]) == 24
    shutil.rmtree(run / "checkpoints")
    tapetum.report(str(run), out=str(tmp_path / "page.html"), overwrite=True)
    found = Read(tmp_path / "page.html")
    assert "There is no checkpoint yet" in found.shown and "it has no checkpoint" in found.shown
    assert "atlas-data" not in found.data


def test_the_newest_checkpoint_gives_the_encoder(work, tmp_path):
    run = copied(work, tmp_path / "run", "encoder.json")
    network, why = halfway.encoder_of(story.read(run), open_data(str(work / "photos")))
    assert network.digest() == tapetum.load(str(work / "run")).digest() and "step 6 of 6" in why
    (run / "checkpoints" / "step_00000006" / "method.safetensors").write_bytes(b"")
    network, why = halfway.encoder_of(story.read(run), open_data(str(work / "photos")))
    assert network.digest() != tapetum.load(str(work / "run")).digest() and "step 4 of 6" in why


def test_the_weights_that_a_run_began_with_are_not_read(work, tmp_path):
    base = copied(work, tmp_path / "base")
    (base / "encoder.safetensors").write_bytes(b"")
    run = begun_from(copied(work, tmp_path / "run", "encoder.json"), base)
    network, _ = halfway.encoder_of(story.read(run), open_data(str(work / "photos")))
    assert network.digest() == tapetum.load(str(work / "run")).digest()


def test_views_are_those_of_a_network_in_the_shape_of_its_weights(work, tmp_path):
    run = begun_from(copied(work, tmp_path / "run"), "public")
    sample = of_run._sample(story.read(run), None, "auto")
    assert sample.method.encoder.spec.stem == ""  # without weights small images get another


def test_damaged_lines_are_told(work, tmp_path):
    run = copied(work, tmp_path / "run")
    first, *rest = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join([first, '{"step": 1, "lo\n', "7\n", *rest]))
    told = story.read(run)
    assert told.notes == ["2 lines of metrics.jsonl are damaged and left out."] and told.step == 6
    tapetum.report(str(run), images=3)
    assert told.notes[0] in Read(run / "report.html").shown


def test_a_run_that_goes_on_and_one_that_has_not_begun(work, tmp_path):
    run = copied(work, tmp_path / "run", "encoder.json", "encoder.safetensors", "results.json")
    (run / "metrics.jsonl").touch()
    tapetum.report(str(run))
    assert "probably still going" in Read(run / "report.html").shown
    run = copied(
        work, tmp_path / "new", "encoder.json", "encoder.safetensors", "results.json", "metrics.jsonl"
    )
    tapetum.report(str(aged(run)))
    found = Read(run / "report.html")
    assert "has not told of a step yet" in found.shown and "No number was logged yet." in found.shown


def test_images_that_are_gone_or_have_changed(work, tmp_path):
    run = copied(work, tmp_path / "run")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace(str(work / "photos"), str(tmp_path / "gone")))
    tapetum.report(str(run))
    found = Read(run / "report.html")
    assert "The images cannot be shown" in found.shown and "--data" in found.shown
    assert "atlas-data" not in found.data and "results" in found.ids()
    tapetum.report(str(run), data=str(work / "flat"))
    found = Read(run / "report.html")
    assert len(found.data["atlas-data"]["x"]) == 24 and found.data["atlas-data"]["classes"] == []


def test_a_run_asks_no_network_for_its_images(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(far.Far, "of", lambda text: asked.append(text) or 1 / 0)
    run = by_hand(tmp_path / "run")
    text = (run / "config.yaml").read_text().replace("photos/train", "http://127.0.0.1:9/x.zip")
    (run / "config.yaml").write_text(f"{text}labels: s3://bucket/x.csv\ntest_data: gs://bucket/x\n")
    tapetum.report(str(run))
    found = Read(run / "report.html")
    assert "The images lie at http://127.0.0.1:9/x.zip, and only an address that you type" in found.shown
    assert "Name them with --data." in found.shown and "Without images no views" in found.shown
    np.save(tmp_path / "images.npy", np.zeros((4, 32, 32, 3), np.uint8))
    tapetum.report(str(run), data=str(tmp_path / "images.npy"))
    found = Read(run / "report.html")
    assert "The labels lie at s3://bucket/x.csv, which nobody typed" in found.shown
    assert "Without images" not in found.shown and asked == []


ANSWERS = {"answers": [[0, 1, 1, 2], [0, 1, 0, 2], [1, 1, 1, 0]], "truth": [0, 1, 0, 1], "rows": [3, 2, 1, 0]}


def answers_with(**change: Any) -> answered.Answered:
    """What a page makes of three draws of answers for four images."""
    source = open_data(np.zeros((4, 8, 8, 3), np.uint8)).with_labels(list("baba"), "by hand")
    kept = {name: np.array(values) for name, values in (ANSWERS | change).items()}
    return answered.of(small_results.result(None, "x", value=0.5), Answers("accuracy", **kept), source)


def test_of_several_draws_the_most_frequent_answer_is_shown():
    found = answers_with()
    assert found.said.tolist() == [0, 1, 1, 2] and found.classes == ["a", "b", "class 2"]
    np.testing.assert_allclose(found.counts * 3, [[3, 3, 0], [1, 3, 2], [0, 0, 0]])
    assert [pair[:2] for pair in found.pairs(9)] == [(0, 1), (1, 2), (1, 0)]
    assert found.worst().tolist() == [1, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"rows": [0, 1, 2, 10**6]},
        {"rows": [0, 1, 2, -1]},
        {"rows": [0.0, 1.0, 2.0, 3.0]},
        {"truth": [0, 1, 0, 60_000]},
        {"truth": [0, 1, 0, -1]},
        {"truth": [[0], [1], [0], [1]]},
        {"answers": [[0, 1, 1, 60_000]]},
        {"answers": [[0, 1, 1, -1]]},
        {"answers": [[0, 1, 1, 0.5]]},
        {"answers": [[0, 1, 1, np.nan]]},
        {"answers": np.zeros((0, 4))},
        {name: [] for name in ("truth", "rows")} | {"answers": [[]]},
    ],
    ids=str,
)
def test_answers_that_do_not_fit_their_images_are_refused(change):
    with pytest.raises(TapetumError, match="are not one of at most 4,096 classes"):
        answers_with(**change)


def test_a_run_without_labels_and_of_a_masked_method(work, tmp_path):
    settings = {
        "method": "mae",
        "encoder": "vit_mini",
        "image_size": 32,
        "batch_size": 8,
        "precision": "fp32",
    }
    tapetum.pretrain(str(work / "flat"), out=str(tmp_path / "run"), steps=2, **settings)
    tapetum.report(str(tmp_path / "run"), images=10)
    found = Read(tmp_path / "run" / "report.html")
    assert found.ids() == [
        "training",
        "results",
        "map",
        "neighbours",
        "patches",
        "painted",
        "views",
        "settings",
        "skipped",
    ]
    alts = [own.get("alt") for tag, own in found.elements if tag == "img"]
    assert [alt for alt in alts if re.search(r"\d$", alt)] == [
        f"{name} {i}" for i in range(4) for name in ("image", "shown", "painted")
    ]
    assert "by the weights of step 2" in found.shown
    assert alts.count("where the network looks") == alts.count("components of its patches") == 8
    assert "10 of 24 images" in found.shown and "No file was left out." in found.shown


def test_the_record_of_health_is_told(work, tmp_path):
    run = copied(work, tmp_path / "run")
    well = {"verdict": "learning", "why": "loss 5 -> 4", "try": ""}
    sick = {"verdict": "collapsing", "why": f"rank 3 of {EVIL}", "try": "A lower rate."}
    rows = [{"step": s, "rank": 9.0 / s} | (well if s < 4 else sick) for s in (2, 4, 6)]
    (run / "health.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert story.healthy(story.read(run)) == (
        f"Health at step 6: collapsing: rank 3 of {EVIL}. Try: A lower rate.",
        False,
    )
    tapetum.report(str(run))
    found = Read(run / "report.html")
    assert f"4 collapsing: rank 3 of {EVIL} A lower rate." in found.shown and found.handlers() == []
    (run / "health.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert story.healthy(story.read(run)) == ("Health at step 2: learning: loss 5 -> 4.", True)


def test_somebodys_own_method_is_not_run(work, tmp_path):
    run = copied(work, tmp_path / "run")
    text = (run / "config.yaml").read_text().replace("name: simclr", "name: ./mine.py")
    (run / "config.yaml").write_text(text)
    (run / "method.py").write_text("raise SystemExit('it ran')")
    tapetum.report(str(run))
    assert "which a report does not run" in Read(run / "report.html").shown
    (run / "encoder.json").unlink()
    tapetum.report(str(run))
    assert "A map appears when it is finished." in Read(run / "report.html").shown


def test_damaged_results_are_noted(work, tmp_path):
    run = copied(work, tmp_path / "run")
    (run / "results.json").write_text("{")
    tapetum.report(str(run))
    found = Read(run / "report.html")
    assert "is not readable JSON" in found.shown and "It was not measured yet" in found.shown


# ---- its parts ----


def test_ten_thousand_images_are_under_25_megabytes(tmp_path):
    """Of noise, which no JPEG makes small, at the side that so many get."""
    pixels = np.random.default_rng(0).integers(0, 255, (1024, 32, 32, 3), np.uint8)
    [uri] = atlas.sprites(open_data(pixels), atlas.SMALL)
    assert atlas.MANY < 10_000 and len(uri) * 10_000 / 1024 < 24e6


def test_the_maps_axes_are_those_of_pca():
    x = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32) * [5, 3, 1, 1, 1] + 1
    xy, words = atlas.flat(x.astype(np.float32), 0)
    from sklearn.decomposition import PCA

    pca = PCA(2)
    other = pca.fit_transform(x / np.linalg.norm(x, axis=1, keepdims=True))
    for own, theirs in zip(xy.T, other.T):
        assert abs(np.corrcoef(own, theirs)[0, 1]) > 0.9999
    assert f"{pca.explained_variance_ratio_.sum():.0%}" in words
    assert xy.min() >= 0 and xy.max() <= 1


def test_umap_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TapetumError, match="pip install umap-learn"):
        atlas.flat(np.eye(4, dtype=np.float32), 0, "umap")


def test_attention_is_that_of_the_networks_own_softmax():
    torch.manual_seed(0)
    encoder = tapetum.load("random:vit_mini", 32).eval()
    pixels = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    look = patches.attention(encoder, pixels)
    block, caught = encoder.net.blocks[-1].attn, []
    block.fused_attn = False
    block.attn_drop.register_forward_pre_hook(lambda _, x: caught.append(x[0]))
    with torch.no_grad():
        encoder(pixels.float() / 255)
    expected = caught[0].mean(1)[:, 0, encoder.net.num_prefix_tokens :]
    torch.testing.assert_close(look, expected / expected.amax(1, keepdim=True))


def test_text_is_escaped_and_markup_is_not():
    made = page.tag("p", "a < b & c", page.tag("b", '"'), title='"><script>')
    assert made == '<p title="&quot;&gt;&lt;script&gt;">a &lt; b &amp; c<b>&quot;</b></p>'
    assert page.tag("p", None, False, ["x", ["y"]], hidden=True, class_=None) == "<p hidden>xy</p>"
    assert "</script>" not in page.data_script("d", "</script>")[:-9]
    assert page.text("\udcff") == "?"
    assert page.tag("p", title="\udcff") == '<p title="?"></p>'


@pytest.mark.parametrize(
    "low, high, expected",
    [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (0, 1050, [0, 500, 1000]), (-3, 3, [-2, 0, 2]), (5, 5, [5])],
)
def test_ticks_are_round(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_a_curve_keeps_peaks_that_are_thinned():
    y = [1.0] * 1000
    y[500] = 9.0
    points = charts.thinned(range(1000), y)
    assert len(points) <= charts.MOST_POINTS and max(p[3] for p in points) == 9
    assert "polygon" in charts.curve(list(range(1000)), y, "loss")
