"""What `fit` says of a classifier: its accuracy, what was left out, and what cannot be done."""

import shutil

import numpy as np
import pytest

from tapetum.adapt import fit as module
from tapetum.adapt.classifier import Classifier
from tapetum.adapt.fit import fit
from tapetum.adapt.predict import predict
from tapetum.base.errors import TapetumError
from tapetum.evaluate.run import evaluate


@pytest.fixture
def spied(monkeypatch):
    """The folds [R, n] that fit makes."""
    seen = []
    real = module.cross_fitted

    def spy(x, y, width, fold, *rest, **settings):
        seen.append(fold)
        return real(x, y, width, fold, *rest, **settings)

    monkeypatch.setattr(module, "cross_fitted", spy)
    return seen


def test_the_accuracy_is_that_of_evaluate(write, tmp_path, encoder, penalties):
    data = write(tmp_path / "data", {"blue": 14, "green": 17, "red": 20}, noise=250)
    report = fit(encoder, data, repeats=2).report
    own = {"logistic": {"penalties": penalties}}
    (result,) = evaluate(encoder, data, None, ["logistic"], repeats=2, baselines=False, protocol_settings=own)
    assert 0.4 < report["accuracy"] < 1
    assert report["accuracy"] == pytest.approx(result.value)
    assert report["interval"] == pytest.approx([max(0, result.interval[0]), min(1, result.interval[1])])
    assert report["split"] == result.protocol["split"]
    counts = np.array([14, 17, 20])
    shares = np.array([report["recognised"][name] for name in ("blue", "green", "red")])
    assert (counts @ shares) / 51 == pytest.approx(report["accuracy"], abs=0.02)


def test_it_recognises_what_it_learnt_and_flags_what_it_did_not(photos, encoder, write, tmp_path):
    made = fit(encoder, photos, repeats=1)
    new = write(tmp_path / "new", {"blue": 40, "green": 40, "red": 40}, seed=5)
    found = made.predict(sorted(new.rglob("*.png")))
    truth = [file.parent.name for file in sorted(new.rglob("*.png"))]
    assert np.mean([a == b for a, b in zip(found.names, truth)]) > 0.9
    assert found.unlike.mean() < 0.2
    black = write(tmp_path / "black", {"black": 20})
    assert made.predict(sorted(black.rglob("*.png"))).unlike.all()


def test_what_is_left_out_is_named(photos, encoder, tmp_path, capsys):
    shutil.copytree(photos, tmp_path / "data")
    broken = tmp_path / "data" / "red" / "000.png"
    broken.write_bytes(broken.read_bytes()[:50])
    rows = [f"{file.parent.name}/{file.name},{file.parent.name}" for file in photos.rglob("*.png")]
    missing = next(row for row in rows if row.startswith("blue/003"))
    rows.remove(missing)
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    report = fit(encoder, tmp_path / "data", labels=tmp_path / "labels.csv", repeats=1).report
    assert report["images"] == {"blue": 19, "green": 20, "red": 19}
    assert report["left out"].keys() == {"red/000.png", "blue/003.png"}
    assert report["left out"]["blue/003.png"] == "no label"
    out = capsys.readouterr().out
    assert "2 images were left out" in out and "blue/003.png: no label" in out


def test_few_labels_work_and_what_could_not_be_done_is_said(write, tmp_path, encoder, capsys):
    data = write(tmp_path / "data", {"blue": 3, "green": 3, "red": 1})
    made = fit(encoder, data, repeats=2)
    out = capsys.readouterr().out
    assert made.report["held_out"] == 6 and made.head.k == 1 and made.threshold is not None
    assert "red" not in made.report["recognised"]
    assert ("how well they are recognised is not known: red" in out and "too few" in out) or "are few" in out
    assert made.predict(sorted(data.rglob("*.png"))).names[-1] == "red"


def test_one_image_a_class_is_learnt_but_nothing_is_known(write, tmp_path, encoder, capsys):
    data = write(tmp_path / "data", {"blue": 1, "green": 1, "red": 1})
    made = fit(encoder, data, tmp_path / "clf")
    assert made.threshold is None and made.head.temperature == 1 and "accuracy" not in made.report
    assert "none can be held out: accuracy and calibration are not known" in capsys.readouterr().out
    found = Classifier.load(tmp_path / "clf").predict(sorted(data.rglob("*.png")))
    assert found.names == ["blue", "green", "red"] and found.unlike is None
    predict(tmp_path / "clf", data, tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().splitlines()[1].split(",")[3] == ""


def test_groups_and_duplicates_are_never_parted(photos, encoder, tmp_path, spied):
    shutil.copytree(photos, tmp_path / "data")
    shutil.copy(tmp_path / "data/red/001.png", tmp_path / "data/red/900.png")
    names = sorted(str(f.relative_to(tmp_path / "data")) for f in (tmp_path / "data").rglob("*.png"))
    rows = [f"{name},{name.split('/')[0]},p{i // 3}" for i, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,patient", *rows]))
    report = fit(
        encoder, tmp_path / "data", labels=tmp_path / "labels.csv", group_by="patient", repeats=2
    ).report
    (fold,) = spied
    assert len(fold) == 2 and (fold >= 0).all()
    group = np.arange(len(names)) // 3
    group[group == group[names.index("red/900.png")]] = group[names.index("red/001.png")]
    assert all(len(np.unique(repeat[group == g])) == 1 for repeat in fold for g in np.unique(group))
    assert "never splitting patient or duplicates" in report["split"]


def test_the_training_part_is_learnt_from(write, tmp_path, encoder):
    for part, count in (("train", 6), ("test", 3)):
        write(tmp_path / "data" / part, {"blue": count, "red": count})
    assert fit(encoder, tmp_path / "data", repeats=1).report["images"] == {"blue": 6, "red": 6}
    assert fit(encoder, tmp_path / "data", split="test", repeats=1).report["images"] == {"blue": 3, "red": 3}


def test_a_share_of_its_own_may_be_flagged(photos, encoder):
    few, many = fit(encoder, photos, unlike=0.02, repeats=1), fit(encoder, photos, unlike=0.3, repeats=1)
    assert few.threshold > many.threshold
    assert many.report["flagged"] == pytest.approx(0.3, abs=0.02)


def test_a_tuned_encoder_is_calibrated_on_a_fifth(photos, encoder, tmp_path):
    before = encoder.digest()
    made = fit(
        encoder,
        photos,
        tmp_path / "clf",
        head="finetune",
        finetune_settings={"epochs": "12", "batch_size": 16},
    )
    assert encoder.digest() == before != made.encoder.digest()
    assert made.report["held_out"] == 12 and len(made.head.bank) == 48
    assert made.report["accuracy"] > 0.6 and made.head.temperature != 1
    assert made.report["split"].startswith("one fold of 5")
    loaded = Classifier.load(tmp_path / "clf")
    file = photos / "red" / "007.png"
    assert np.array_equal(loaded.predict(file).probabilities, made.predict(file).probabilities)


def test_what_cannot_be_fitted_is_one_sentence(photos, encoder, write, tmp_path):
    with pytest.raises(TapetumError, match="unknown head 'liner'; did you mean 'linear'"):
        fit(encoder, photos, head="liner")
    with pytest.raises(TapetumError, match="are for --head finetune"):
        fit(encoder, photos, finetune_settings={"epochs": 1})
    with pytest.raises(TapetumError, match="did you mean 'epochs'"):
        fit(encoder, photos, head="finetune", finetune_settings={"epoch": 1})
    with pytest.raises(TapetumError, match="at least 2 classes"):
        fit(encoder, write(tmp_path / "one", {"blue": 4}), labels="folders")
