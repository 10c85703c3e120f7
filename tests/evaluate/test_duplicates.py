"""Images that lie in both parts are found, whatever was done to hide them, and others are not."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.evaluate import duplicates
from tapetum.evaluate.baselines import pixels
from tapetum.evaluate.run import evaluate
from tapetum.features import Extractor


def raw(folder):
    return Extractor(pixels()).features(open_data(folder, "none"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory, data_folder):
    """60 photographs to learn from, and 20 to judge, of which six are among the former."""
    folder = tmp_path_factory.mktemp("photos")
    source = open_data(f"{data_folder}/imagenet-samples.zip")
    for i in range(80):
        place = folder / ("train" if i < 60 else "test") / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:03d}.jpg").write_bytes(source.store.content(source.keys[i]))
    test = folder / "test" / "a"
    first = sorted((folder / "train").rglob("*.jpg"))[:6]
    shutil.copy(first[0], test / "copied.jpg")
    images = [Image.open(path).convert("RGB") for path in first]
    images[1].save(test / "compressed.jpg", quality=40)
    images[2].resize((images[2].width // 3, images[2].height // 3), Image.Resampling.BICUBIC).save(
        test / "small.jpg"
    )
    images[3].save(test / "another.png")
    images[4].transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(test / "mirrored.jpg")  # another picture
    width, height = images[5].size
    images[5].crop((0, 0, width // 2, height)).save(test / "cropped.jpg")  # another picture
    return folder


def test_copies_are_found_and_nothing_else(photos):
    train, test = raw(photos / "train"), raw(photos / "test")
    found = duplicates.twins(train, test)
    pairs = {test.paths[b].split("/")[1]: train.paths[a] for a, b in zip(found.first, found.second)}
    planted = sorted(train.paths)[:4]
    assert pairs == dict(zip(("copied.jpg", "compressed.jpg", "small.jpg", "another.png"), planted))
    exact = {test.paths[b]: equal for b, equal in zip(found.second, found.exact)}
    assert [name for name, equal in exact.items() if equal] == ["a/copied.jpg"]


def test_evaluate_reports_the_number_with_and_without_them(photos, capsys, tmp_path):
    (result,) = evaluate(pixels(), photos, protocols=["knn"], baselines=False, out=tmp_path / "r.json")
    said = capsys.readouterr().out
    clean = result.details["without_duplicates"]
    assert result.n == 26 and clean["left_out"] == 4 and clean["n"] == 22
    assert "4 test images lie among the training images too (1 of equal content, 3 that look the same" in said
    assert "without the 4 duplicates" in said
    rows = [i for i, path in enumerate(raw(photos / "test").paths) if path[2:] not in PLANTED]
    right = result.answers.answers[0] == result.answers.truth
    assert clean["value"] == pytest.approx(right[rows].mean())
    (quiet,) = evaluate(pixels(), photos, protocols=["knn"], baselines=False, duplicates=False)
    assert quiet.value == result.value and "without_duplicates" not in quiet.details


PLANTED = ("copied.jpg", "compressed.jpg", "small.jpg", "another.png")


def test_folds_never_part_duplicates(photos, tmp_path, capsys):
    everything = tmp_path / "all"
    for part in ("train", "test"):
        shutil.copytree(photos / part, everything, dirs_exist_ok=True)
    (result,) = evaluate(pixels(), everything, protocols=["knn"], baselines=False)
    found = raw(everything)
    at = {path: row for row, path in enumerate(found.paths)}
    fold = result.answers.fold[:, np.argsort(result.answers.rows)]
    for copy, first in zip(PLANTED, sorted(raw(photos / "train").paths)[:4]):
        assert (fold[:, at[f"a/{copy}"]] == fold[:, at[first]]).all()
    assert "never splitting duplicates" in result.protocol["split"]
    assert "4 pairs of images are duplicates" in capsys.readouterr().out


def test_pictures_of_one_colour_are_like_none(tmp_path):
    for i, name in enumerate(("train", "test")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 40), (100, 100, 100 + i)).save(tmp_path / name / "grey.png")
    assert not len(duplicates.twins(raw(tmp_path / "train"), raw(tmp_path / "test")).first)


def test_many_pairs_are_compared_by_content_alone(photos, monkeypatch):
    monkeypatch.setattr(duplicates, "MOST", 100)
    found = duplicates.twins(raw(photos / "train"), raw(photos / "test"))
    assert not found.looked and found.exact.tolist() == [True]


def test_groups_are_joined_with_duplicates():
    pairs = duplicates.Pairs(np.array([0, 4]), np.array([3, 5]), np.array([True, True]), True)
    groups = duplicates.united(7, pairs, np.array([1, 1, 2, 2, 3, 4, 5]))
    assert len({groups[i] for i in (0, 1, 2, 3)}) == 1
    assert groups[4] == groups[5] and len(set(groups.tolist())) == 3
    assert len(set(duplicates.united(7, pairs).tolist())) == 5


def test_the_same_data_twice_are_refused(photos):
    with pytest.raises(TapetumError, match="test data are the training data"):
        evaluate(pixels(), photos / "train", photos / "train", protocols=["knn"], duplicates=False)


def test_damaged_images_are_like_none(tmp_path):
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(content, "PNG")
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "good.png").write_bytes(content.getvalue())
        (tmp_path / name / "bad.png").write_bytes(b"broken")
    found = duplicates.twins(raw(tmp_path / "train"), raw(tmp_path / "test"))
    assert sorted(found.exact.tolist()) == [True, True], "equal contents, one of them no image"
