"""Retrieval by class against torchmetrics, by graded ground truth against a slow writing."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import tapetum.base.torchvision_compat  # noqa: F401 - torchmetrics imports torchvision by itself
from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.evaluate import landmarks
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import retrieve
from tapetum.evaluate.result import differences
from tapetum.evaluate.run import evaluate
from tapetum.features import Extractor

torchmetrics = pytest.importorskip("torchmetrics.functional.retrieval")


def by_torchmetrics(x, y, queries, truth, alone=False):
    """mAP, recall@1, recall@5, R-precision over queries that have something to find."""
    found = []
    near = F.normalize(torch.from_numpy(queries), dim=1) @ F.normalize(torch.from_numpy(x), dim=1).T + 1
    for i, row in enumerate(near):
        kept = torch.arange(len(x)) != (i if alone else -1)
        row, right = row[kept], torch.from_numpy(y)[kept] == truth[i]
        if right.any():
            found.append(
                [
                    float(torchmetrics.retrieval_average_precision(row, right)),
                    *(float(torchmetrics.retrieval_hit_rate(row, right, top_k=k)) for k in (1, 5)),
                    float(torchmetrics.retrieval_r_precision(row, right)),
                ]
            )
    return np.mean(found, 0)


def numbers(results):
    return {r.name.removeprefix("retrieve "): r.value for r in results}


def test_test_images_find_training_images(pair):
    results = retrieve.protocol(pair)
    expected = by_torchmetrics(pair.train.x, pair.train.labels, pair.test.x, pair.test.labels)
    ours = numbers(results)
    assert list(ours) == ["mAP", "recall@1", "recall@5", "recall@10", "R-precision", "MAP@R"]
    assert [ours[k] for k in ("mAP", "recall@1", "recall@5", "R-precision")] == pytest.approx(
        expected, abs=1e-6
    )
    assert results[0].answers.answers.shape == (1, 120) and results[0].n == 120
    each = results[0].answers.answers[0]
    assert results[0].error_bar == pytest.approx(each.std() / 120**0.5, rel=0.2)


@pytest.mark.parametrize("alone", [True, False])
def test_test_images_find_each_other(pair, alone):
    case = Case(pair.test, pair.test, alone=True) if alone else pair
    ours = numbers(retrieve.protocol(case, among=not alone))
    test = pair.test
    expected = by_torchmetrics(test.x, test.labels, test.x, test.labels, alone=True)
    assert [ours[k] for k in ("mAP", "recall@1", "recall@5", "R-precision")] == pytest.approx(
        expected, abs=1e-6
    )


def test_images_of_one_group_do_not_find_each_other(pair):
    test = pair.test
    groups = np.arange(120) // 6
    results = retrieve.protocol(Case(test, test, alone=True, groups=groups))
    near = F.normalize(torch.from_numpy(test.x), dim=1)
    near = near @ near.T
    right = []
    for i in range(120):
        others = groups != groups[i]
        best = np.flatnonzero(others)[int(near[i][others].argmax())]
        right.append(test.labels[best] == test.labels[i])
    assert numbers(results)["recall@1"] == pytest.approx(np.mean(right))
    assert (
        numbers(results)["recall@1"] != numbers(retrieve.protocol(Case(test, test, alone=True)))["recall@1"]
    )


def test_copies_of_an_image_do_not_find_each_other(tmp_path, monkeypatch, encoder):
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "cache"))
    g = np.random.default_rng(0)
    for i in range(24):
        pixels = g.integers(0, 256, (16, 16, 3), dtype=np.uint8) // g.integers(1, 5, 3, dtype=np.uint8)
        for folder in ("once", "twice", "twice/again"):
            place = tmp_path / folder.replace("twice", f"twice/{i % 3}").replace("once", f"once/{i % 3}")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{i}.png")
    once, twice = (
        evaluate(encoder, str(tmp_path / name), protocols=["retrieve"], baselines=False)
        for name in ("once", "twice")
    )
    assert (once[0].n, twice[0].n) == (24, 48)
    assert numbers(twice)["recall@1"] == numbers(once)["recall@1"] < 1


def test_what_is_not_there_to_find(pair, blobs, features_of):
    x, y = blobs(120, seed=1)
    lone = y.clone()
    lone[7] = 4
    part = features_of(x, lone)
    mean = retrieve.protocol(Case(part, part, alone=True))[0]
    assert mean.n == 119 and 7 not in mean.answers.rows
    assert mean.notes == ["1 images have none of their class to find and are left out"]
    result = retrieve.protocol(Case(pair.train, part))[0]
    assert result.n == 120 and result.answers.answers[0][7] == 0
    assert "1 test images of classes without training images count as wrong" in result.notes[0]
    each = features_of(x[:3], torch.arange(3))
    with pytest.raises(TapetumError, match=r"no image of .* has another of its class to find"):
        retrieve.protocol(Case(each, each, alone=True))


def test_several_classes_an_image_have_one_in_common(features_of):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(80, 6, generator=g)
    names = ["a" if r < 0.3 else "a;b" if r < 0.5 else "b;c" for r in torch.rand(80, generator=g).tolist()]
    train, test = features_of(x[:60], names[:60]), features_of(x[60:], names[60:])
    near = (F.normalize(x[60:], dim=1) @ F.normalize(x[:60], dim=1).T).argmax(1)
    right = [
        bool(set(names[60 + i].split(";")) & set(names[j].split(";"))) for i, j in enumerate(near.tolist())
    ]
    ours = numbers(retrieve.protocol(Case(train, test, kind="classes")))
    assert 0 < ours["recall@1"] < 1 and ours["recall@1"] == pytest.approx(np.mean(right))


def test_every_setting_is_another_protocol(pair):
    first = retrieve.protocol(pair)
    assert len({r.protocol_id for r in first}) == len(first)
    assert differences(first[0].protocol, retrieve.protocol(pair, among=True)[0].protocol) == ["head.among"]
    part = pair.train
    with pytest.raises(TapetumError, match="retrieve looks for a class"):
        retrieve.protocol(Case(part, part, kind="number"))
    with pytest.raises(TapetumError, match="needs the encoder"):
        retrieve.protocol(pair, distractors="photos")


# ---- graded ground truth, on images ----


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """30 photos of noise, 24 in a gallery and 6 queries, and ground truth about them."""
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "cache"))
    g = np.random.default_rng(0)
    for folder, count in (("gallery", 24), ("asked", 6), ("noise", 9)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            pixels = g.integers(0, 256, (20, 24, 3), dtype=np.uint8) // g.integers(1, 5, 3, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{folder}_{i:02d}.png")
    grades = []
    for _ in range(6):
        places = g.permutation(24).tolist()
        grades.append(
            {"easy": places[:4], "hard": places[4:7], "junk": places[7:10], "bbx": [2.4, 3, 15.6, 18]}
        )
    grades[0]["hard"] = []
    tree = {
        "imlist": [f"gallery_{i:02d}" for i in range(24)][::-1],
        "qimlist": [f"asked_{i:02d}.png" for i in (3, 1, 0, 2, 5, 4)],
        "gnd": grades,
    }
    (tmp_path / "truth.json").write_text(json.dumps(tree))
    return tmp_path, tree


def vectors(encoder, folder, names, box=None):
    """Features of images read one by one."""
    found = []
    for name in names:
        pixels = np.asarray(Image.open(folder / f"{name.removesuffix('.png')}.png"))
        pixels = pixels if box is None else pixels[box[1] : box[3], box[0] : box[2]]
        with torch.no_grad():
            found.append(encoder(torch.from_numpy(encoder.prepare(pixels))[None].float() / 255)[0])
    return F.normalize(torch.stack(found), dim=1)


def by_hand(near, tree, level, k):
    """mAP by trapezoids and mP@k, walking down each list."""
    positive = {"easy": ["easy"], "medium": ["easy", "hard"], "hard": ["hard"]}[level]
    areas, shares = [], []
    for row, grades in zip(near.tolist(), tree["gnd"]):
        wanted = {i for grade in positive for i in grades[grade]}
        gone = {i for grade in ("easy", "hard", "junk") if grade not in positive for i in grades[grade]}
        if not wanted:
            continue
        seen = [i in wanted for i in sorted(range(len(row)), key=lambda i: -row[i]) if i not in gone]
        points = [(0.0, 1.0)] + [
            (sum(seen[:n]) / len(wanted), sum(seen[:n]) / n) for n in range(1, len(seen) + 1)
        ]
        areas.append(sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points)))
        depth = min(k, max(n for n, right in enumerate(seen, 1) if right))
        shares.append(sum(seen[:depth]) / depth)
    return np.mean(areas), np.mean(shares), len(areas)


def test_ground_truth_equals_a_slow_writing(photos, encoder):
    folder, tree = photos
    case = Case(open_data(folder / "gallery"), open_data(folder / "asked"), Extractor(encoder))
    results = retrieve.protocol(case, ground_truth=str(folder / "truth.json"), at=(1, 5))
    gallery = vectors(encoder, folder / "gallery", tree["imlist"])
    near = vectors(encoder, folder / "asked", tree["qimlist"], (2, 3, 16, 18)) @ gallery.T
    ours = numbers(results)
    assert len(ours) == 9
    for level in ("easy", "medium", "hard"):
        area, share, count = by_hand(near, tree, level, 5)
        assert ours[f"{level} mAP"] == pytest.approx(area, abs=1e-6)
        assert ours[f"{level} mP@5"] == pytest.approx(share, abs=1e-6)
        assert next(r.n for r in results if level in r.name) == count
    assert len({r.protocol_id for r in results}) == 9
    assert [case.test.paths[row] for row in results[0].answers.rows] == tree["qimlist"]


def test_distractors_and_one_folder_for_all(photos, encoder):
    folder, tree = photos
    truth = str(folder / "truth.json")
    case = Case(open_data(folder / "gallery"), open_data(folder / "asked"), Extractor(encoder))
    plain = retrieve.protocol(case, ground_truth=truth)
    more = retrieve.protocol(case, ground_truth=truth, distractors=str(folder / "noise"))
    names = [f"noise_{i:02d}" for i in range(9)]
    gallery = torch.cat(
        [vectors(encoder, folder / "gallery", tree["imlist"]), vectors(encoder, folder / "noise", names)]
    )
    near = vectors(encoder, folder / "asked", tree["qimlist"], (2, 3, 16, 18)) @ gallery.T
    assert numbers(more)["hard mAP"] == pytest.approx(by_hand(near, tree, "hard", 5)[0], abs=1e-6)
    assert differences(plain[0].protocol, more[0].protocol) == ["head.distractors"]
    whole = open_data(folder)
    together = Case(whole, whole, Extractor(encoder), alone=True)
    assert numbers(retrieve.protocol(together, ground_truth=truth)) == pytest.approx(numbers(plain))


def test_distractors_lower_what_a_class_finds(images, encoder, write_images, tmp_path):
    other = write_images(tmp_path / "other", 6, seed=1)
    case = Case(open_data(images), open_data(other), Extractor(encoder))
    plain, more = (numbers(retrieve.protocol(case, distractors=d)) for d in (None, str(other)))
    assert more["recall@1"] == 0, "the nearest to each query is itself, among the distractors"
    assert more["mAP"] < plain["mAP"]


def test_only_stored_features_and_images_that_cannot_be_read(photos, encoder):
    folder, tree = photos
    (folder / "gallery/gallery_05.png").write_bytes(b"no image")
    case = Case(open_data(folder / "gallery"), open_data(folder / "asked"), Extractor(encoder))
    stored = Case(case.train, case.test)
    results = retrieve.protocol(stored, ground_truth=str(folder / "truth.json"))
    assert results[0].notes == [
        "queries are not cut to their boxes, since only stored features are there",
        "1 searched images cannot be read and count as last",
    ]
    names = [name for name in tree["imlist"] if name != "gallery_05"]
    near = vectors(encoder, folder / "asked", tree["qimlist"]) @ vectors(encoder, folder / "gallery", names).T
    lost = tree["imlist"].index("gallery_05")
    near = torch.cat([near[:, :lost], torch.full((6, 1), -2.0), near[:, lost:]], 1)
    assert numbers(results)["medium mAP"] == pytest.approx(by_hand(near, tree, "medium", 5)[0], abs=1e-6)
    assert results[0].protocol["head"]["cut"] is False


def test_ground_truth_needs_no_labels(photos, encoder):
    folder, _ = photos
    settings = {"retrieve": {"ground_truth": str(folder / "truth.json")}}
    parts = (str(folder / "gallery"), str(folder / "asked"))
    found = evaluate(
        encoder, *parts, ["retrieve"], baselines=False, protocol_settings=settings, labels="none"
    )
    assert "retrieve hard mAP" in [r.name for r in found]
    with pytest.raises(TapetumError, match="have no labels"):
        evaluate(encoder, *parts, ["retrieve"], baselines=False, labels="none")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"gnd": None}, 'it needs the lists "imlist", "qimlist" and "gnd"'),
        ({"qimlist": ["asked_00"]}, "has 1 names in qimlist, but 6 entries in gnd"),
        ({"gnd": [{"esay": [1]}] * 6}, "did you mean 'easy'"),
        (
            {"gnd": [{"easy": [24]}] * 6},
            "query asked_03.png, easy: these must be places in imlist, from 0 to 23",
        ),
        ({"gnd": [{"easy": [0], "bbx": [5, 5, 5, 9]}] * 6}, "bbx must be"),
        ({"gnd": [[1]] * 6}, "an entry of gnd has the keys"),
        ({"imlist": [f"wrong_{i}" for i in range(24)]}, "24 of 24 images are not in the training data"),
        (
            {"qimlist": ["asked_00"] * 5 + ["nobody"]},
            "1 of 6 images are not in the test data .*, such as nobody",
        ),
    ],
)
def test_ground_truth_that_is_wrong_is_one_sentence(photos, encoder, change, sentence):
    folder, tree = photos
    (folder / "truth.json").write_text(json.dumps(tree | change))
    case = Case(open_data(folder / "gallery"), open_data(folder / "asked"), Extractor(encoder))
    with pytest.raises(TapetumError, match=sentence):
        retrieve.protocol(case, ground_truth=str(folder / "truth.json"))


def test_names_that_could_be_two_images_are_refused():
    assert landmarks.rows(["b", "x/a.jpg"], ["1/a.png", "b.v2", "2/b.jpeg"], "x").tolist() == [2, 0]
    with pytest.raises(TapetumError, match=r"a could be two images of the data: 1/a.png and 2/a.jpg"):
        landmarks.rows(["a"], ["1/a.png", "2/a.jpg"], "the data")
