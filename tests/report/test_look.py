"""The page about images: facts, damage, twins, outliers, what labels teach; labels are optional."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tapetum
from small_images import _write_images
from small_pages import Read, browser, opened
from tapetum import cli
from tapetum.report import of_data


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """36 images of three colours, one of them there twice, one damaged, one unlike all, and a text."""
    folder = _write_images(tmp_path_factory.mktemp("look") / "photos", 12)
    shutil.copy(folder / "red" / "00.png", folder / "blue" / "copy.png")
    (folder / "red" / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    (folder / "readme.txt").write_text("not an image")
    stripes = np.zeros((64, 16, 3), np.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes).save(folder / "green" / "stripes.png")
    return folder


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory) -> Read:
    file = tmp_path_factory.mktemp("page") / "look.html"
    found = tapetum.look(str(photos), encoder="pixels", out=str(file))
    assert found["bytes"] == file.stat().st_size
    return Read(file)


def test_it_says_what_there_is(photos, whole):
    assert whole.ids() == [
        "facts", "map", "results", "confusion", "neighbours", "duplicates", "outliers", "damaged", "skipped",
    ]  # fmt: skip
    assert "3 classes from folders" in whole.shown and ".png 38, .jpg 1" in whole.shown
    assert "16 x 12 pixels" in whole.shown and "16 x 64 pixels" in whole.shown
    assert "Features are raw pixels" in whole.shown
    assert whole.outside() == [] and whole.handlers() == []


def test_damage_twins_and_outliers_are_found(whole):
    assert "red/broken.jpg" in whole.shown and "cannot be read: 1; pairs that show the same: 1" in whole.shown
    assert (
        "show the same: 1 (1 of equal content, 0 that look the same). With two different labels: 1."
        in whole.shown
    )
    data = whole.data["atlas-data"]
    images = [
        int(own["data-image"]) for tag, own in whole.elements if tag == "canvas" and "data-image" in own
    ]
    far = data["name"].index("green/stripes.png")
    assert images.count(far) >= 1
    first = re.search(r'id="outliers".*?data-image="(\d+)"', whole.content)
    assert int(first[1]) == far
    assert "readme.txt" in whole.shown


def test_with_labels_it_says_how_well_they_are_learnt(whole):
    value, low, high = map(float, re.search(
        r"accuracy ([\d.]+) ± [\d.]+ \(95 %: ([\d.]+) to ([\d.]+)\)", whole.shown
    ).groups())  # fmt: skip
    assert value > 0.8 and low < value < high
    assert "cross-validation on 38 of 39 images" in whole.shown


def test_without_labels_it_says_so(photos, tmp_path, capsys):
    out = tmp_path / "page.html"
    asked = (
        f"look {photos} --labels none --encoder random:resnet10_w32 --image-size 32 --images 20 --out {out}"
    )
    code = cli.main(asked.split())
    assert code == 0, capsys.readouterr().err
    found = Read(out)
    assert "have no labels" in found.shown and "confusion" not in found.ids()
    assert "Features are those of random:resnet10_w32." in found.shown
    assert len(found.data["atlas-data"]["x"]) == 20 and found.data["atlas-data"]["said"] is None
    assert cli.main(["look", str(photos), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_few_images_and_labels_that_teach_nothing_are_said(photos, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for i in range(2):
        shutil.copy(photos / "red" / f"0{i}.png", few)
    tapetum.look(str(few), encoder="pixels", out=str(tmp_path / "a.html"))
    assert "a map needs at least 3" in Read(tmp_path / "a.html").shown
    for i, name in enumerate(("a", "b", "c", "d")):
        (tmp_path / "single" / name).mkdir(parents=True)
        shutil.copy(photos / "red" / f"0{i}.png", tmp_path / "single" / name)
    tapetum.look(str(tmp_path / "single"), labels="folders", encoder="pixels", out=str(tmp_path / "b.html"))
    assert "Nothing was learnt from the labels" in Read(tmp_path / "b.html").shown


def test_the_encoder_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    encoder, what = of_data.chosen_encoder(None, None)
    assert encoder.name == "pixels" and "raw pixels" in what


def test_sizes_are_counted():
    assert of_data.histogram(np.array([32, 32, 48])) == [("32", 2), ("48", 1)]
    wide = of_data.histogram(np.arange(1, 65))
    assert wide[0] == ("1 to 1", 1) and wide[-1] == ("64 to 127", 1) and sum(n for _, n in wide) == 64


def test_it_works_in_a_browser(whole, photos, tmp_path):
    file = tmp_path / "look.html"
    file.write_text(whole.content)
    with browser() as chromium, opened(chromium, file, viewport={"width": 375, "height": 800}) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") <= 375
        tab.get_by_role("button", name=re.compile("^red")).click()
        assert tab.locator("#legend").get_attribute("data-shown") == "12"
