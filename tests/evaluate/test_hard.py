"""Hard test images are those that the reference got wrong, and the list of them is a test set."""

import numpy as np
import pytest

from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.evaluate.case import Case
from tapetum.evaluate.hard import hard_images, hard_rows
from tapetum.evaluate.protocols import calibrate, knn, unknown
from tapetum.features import Extractor


@pytest.fixture
def case(images, encoder, write_images, tmp_path):
    """Test images that are hard: those of class folders with the wrong colour, among others."""
    test = write_images(tmp_path / "test", 5, seed=3)
    for i in range(2):
        (test / "red" / f"0{i}.png").replace(test / "blue" / f"1{i}.png")
    return Case(open_data(images), open_data(test), Extractor(encoder))


def test_the_list_holds_what_the_reference_got_wrong(case, tmp_path):
    result = knn.protocol(case, k=3)
    count = hard_images(result, tmp_path / "test", tmp_path / "lists" / "hard.csv")
    listed = open_data(tmp_path / "lists" / "hard.csv")
    truth, said = result.answers.truth, result.answers.answers[0]
    wrong = [case.test.paths[row] for row in np.flatnonzero(truth != said)]
    assert sorted(path.removeprefix("test/") for path in listed.paths) == wrong and count == len(wrong)
    assert {"blue/10.png", "blue/11.png"} <= set(wrong)
    assert set(listed.label_names()) >= {"blue"}
    again = knn.protocol(Case(case.train.source, listed, case.extractor), k=3)
    assert again.value == 0


def test_unknown_images_are_hard_that_look_known(case):
    (result,) = unknown.protocol(case, scores=("knn",), beside=(), k=3)
    score, strange = result.answers.answers[0], result.answers.truth
    expected = [row for row in np.flatnonzero(strange) if score[row] < np.median(score[~strange])]
    assert hard_rows(result).tolist() == expected


def test_what_no_list_can_be_made_of_is_said(case, images, tmp_path):
    result = knn.protocol(case, k=3)
    with pytest.raises(TapetumError, match="is of 15 test images; images has 24"):
        hard_images(result, images, tmp_path / "x.csv")
    with pytest.raises(TapetumError, match="does not say which images are wrong"):
        hard_images(calibrate.protocol(case)[0], tmp_path / "test", tmp_path / "x.csv")
    (every,) = (knn.protocol(Case(case.test.source, case.test.source, case.extractor), k=1),)
    with pytest.raises(TapetumError, match="no image of test is hard"):
        hard_images(every, tmp_path / "test", tmp_path / "x.csv")
