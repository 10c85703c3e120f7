"""Results name what was measured how, are kept, and are compared only under one protocol."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from tapetum.base.errors import TapetumError
from tapetum.base.files import short_id
from tapetum.evaluate.answers import Answers
from tapetum.evaluate.result import (
    Result,
    add_results,
    answers_file,
    comparable,
    differences,
    read_results,
)

RESULT = Result(
    "knn accuracy",
    0.5,
    0.01,
    (0.48, 0.52),
    "bootstrap",
    4,
    [0],
    {"name": "knn", "head": {"k": 20}},
    {"weights": "abc"},
)


def test_ids_depend_on_facts_and_not_on_their_order():
    assert short_id({"a": 1, "b": [2.0, None]}) == short_id({"b": [2.0, None], "a": 1})
    assert short_id({"a": 1}) != short_id({"a": 2}) != short_id({"b": 2})
    assert RESULT.protocol_id == short_id({"head": {"k": 20}, "name": "knn"})
    assert replace(RESULT, value=0.9, row="start", notes=["x"]).subject_id == RESULT.subject_id


def test_json_gives_the_same_result_back():
    facts = json.loads(json.dumps(RESULT.to_json()))
    assert Result.from_json(facts) == RESULT
    assert facts["protocol_id"] == RESULT.protocol_id


def test_results_changed_by_hand_are_refused():
    facts = RESULT.to_json()
    with pytest.raises(TapetumError, match="changed after it was written"):
        Result.from_json({**facts, "protocol": {"name": "knn", "head": {"k": 5}}})
    del facts["value"]
    with pytest.raises(TapetumError, match="'value' is missing"):
        Result.from_json(facts)


def test_only_one_protocol_is_compared():
    better = replace(RESULT, value=0.6, subject={"weights": "def"})
    assert comparable([RESULT, better]) == [RESULT, better]
    other = replace(RESULT, protocol={"name": "knn", "head": {"k": 5}, "seeds": [1]})
    with pytest.raises(TapetumError, match=r"differ in head\.k, seeds"):
        comparable([RESULT, better, other])
    assert differences(RESULT.subject, better.subject) == ["weights"]


def test_adding_loses_nothing(tmp_path):
    file = tmp_path / "results.json"
    other = replace(RESULT, subject={"weights": "def"})
    add_results(file, [RESULT])
    add_results(file, [other])
    add_results(file, [replace(RESULT, value=0.7)])  # measured again
    assert read_results(file) == [replace(RESULT, value=0.7), other]
    with pytest.raises(TapetumError, match="no number"):
        add_results(file, [replace(RESULT, value=float("nan"))])
    assert len(read_results(file)) == 2


def test_what_another_process_adds_meanwhile_is_kept(tmp_path, monkeypatch):
    file, other = tmp_path / "results.json", replace(RESULT, subject={"weights": "def"})
    said = Answers("accuracy", np.array([[0, 1]]), np.array([0, 1]), np.array([0, 1]))
    monkeypatch.setattr(Answers, "save", lambda *_: add_results(file, [other]))
    add_results(file, [replace(RESULT, answers=said)])
    assert read_results(file) == [other, RESULT]


def test_two_that_add_at_once_wait_for_one_another(tmp_path):
    """Many times over, since without waiting most of them lose some."""
    file = tmp_path / "results.json"
    mine = [replace(RESULT, subject={"weights": str(i)}) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda result: add_results(file, [result]), mine))
    assert {r.subject_id for r in read_results(file)} == {r.subject_id for r in mine}


def test_a_damaged_file_is_refused_and_kept(tmp_path):
    file = tmp_path / "results.json"
    assert read_results(file) == []
    for content in ("{", "[]", '{"format": 99, "results": []}', '{"format": 1}'):
        file.write_text(content)
        with pytest.raises(TapetumError):
            add_results(file, [RESULT])
        assert file.read_text() == content


def test_answers_are_kept_beside_the_file(tmp_path):
    said = Answers("accuracy", np.array([[0, 1, 1, 0]]), np.array([0, 1, 0, 0]), np.array([0, 2, 3, 5]))
    file = tmp_path / "results.json"
    add_results(file, [replace(RESULT, answers=said)], [f"{i}.png" for i in range(6)])
    assert "answers" not in json.loads(file.read_text())["results"][0]
    again = Answers.load(answers_file(file, RESULT))
    np.testing.assert_array_equal(again.answers, said.answers)
    with np.load(answers_file(file, RESULT)) as arrays:
        assert arrays["paths"].tolist() == ["0.png", "2.png", "3.png", "5.png"]


def test_an_unknown_error_is_kept_as_unknown(tmp_path):
    file = tmp_path / "results.json"
    odd = replace(RESULT, error_bar=math.nan, interval=(math.nan, math.inf), details={"x": [math.nan]})
    add_results(file, [odd])
    (found,) = read_results(file)
    assert math.isnan(found.error_bar) and math.isnan(found.interval[1]) and found.details == {"x": [None]}
