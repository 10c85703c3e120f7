"""Who is compared in what: subjects from runs and files, what is refused and why, what follows over all."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from small_results import result, run, said, write
from tapetum.base.errors import TapetumError
from tapetum.evaluate.scoreboard import compare, correlations, overall
from tapetum.evaluate.subjects import read, training_cost


def baselines(start: str = "S"):
    rows = (("pixels", "P", 0.3), ("random weights", "R", 0.35), ("start", start, 0.4))
    return [result(said(share, 5), weights, row) for row, weights, share in rows]


@pytest.fixture
def runs(tmp_path):
    """Two runs; B is surely better, and began from other weights."""
    a = run(tmp_path / "A", result(said(0.5, 1), "A"), *baselines(), minutes=12)
    b = run(tmp_path / "B", result(said(0.7, 2), "B"), *baselines("T"))
    return str(a), str(b)


def names(board):
    return [s.name for s in board.subjects], [s.name for s in board.baselines]


def test_two_runs_stand_beside_their_baselines_each_once(runs):
    board = compare(runs)
    assert names(board) == (["A", "B"], ["pixels", "random weights", "start of S", "start of T"])
    [row] = board.rows
    assert row.number == "knn accuracy" and set(row.results) == {s.name for s in board.all}
    assert list(row.apart) == ["B"] and row.beyond_chance("B") and row.apart["B"].value > 0.1
    assert row.adjusted["B"] == row.apart["B"].p, "one comparison alone"
    assert board.subjects[0].cost["minutes"] == pytest.approx(12) and board.subjects[0].cost["memory"] == 2e9
    assert board.subjects[1].cost == {"parameters": 1_250_000, "flops": 168_000_000, "dim": 256}


def test_all_are_tested_against_the_one_that_is_named(runs):
    board = compare(runs, against="pixels")
    assert names(board)[0] == ["A", "B", "pixels"] and board.reference.name == "pixels"
    [row] = board.rows
    assert list(row.apart) == ["A", "B"]
    p = sorted(found.p for found in row.apart.values())
    assert sorted(row.adjusted.values()) == pytest.approx([min(1, 2 * p[0]), max(2 * p[0], p[1])])
    with pytest.raises(TapetumError, match="did you mean 'random weights'"):
        compare(runs, against="random")


def test_one_run_alone_is_tested_against_its_baselines(runs):
    [row] = compare(runs[:1]).rows
    assert list(row.apart) == ["pixels", "random weights", "start"]
    assert len(row.adjusted) == 3


def test_one_of_several_in_a_file_is_chosen(tmp_path):
    shared = write(
        tmp_path / "shared.json", result(said(0.5, 1), "A"), result(said(0.7, 2), "B"), *baselines()
    )
    assert names(compare([str(shared)])) == (["A", "B"], ["pixels", "random weights", "start"])
    assert names(compare([f"{shared}#B", f"{shared}#A"]))[0] == ["B", "A"]
    assert names(compare([f"{shared}#2"]))[0] == ["B"]
    assert names(compare([f"{shared}#pixels", f"{shared}#1"])) == (
        ["pixels", "A"],
        ["random weights", "start"],
    )
    with pytest.raises(TapetumError, match=r"did you mean 'pixels'\? Allowed: 1, 2, A, B, pixels"):
        compare([f"{shared}#pixel"])


def test_what_is_called_alike_is_told_apart(tmp_path):
    a = run(tmp_path / "one" / "run", result(said(0.5, 1), "A"))
    b = run(tmp_path / "two" / "run", result(said(0.5, 2), "B"))
    assert names(compare([str(a), str(b)]))[0] == ["one/run", "two/run"]
    c = run(tmp_path / "three" / "pixels", result(said(0.5, 3), "C"), *baselines())
    assert names(compare([str(c)])) == (["three/pixels"], ["pixels of P", "random weights", "start"])
    d = run(tmp_path / "three" / "twin", result(said(0.5, 4), "D"))
    write(d / "twin.json", result(said(0.5, 5), "E"), result(said(0.5, 6), "D"))
    subjects, *_ = read([f"{d}/twin.json#D", f"{d}/twin.json#1", str(d)])
    assert [s.name for s in subjects] == ["D", "E"]


def test_one_and_the_same_subject_stands_once(runs, tmp_path):
    again = write(
        tmp_path / "again.json", result(said(0.5, 1), "A"), result(said(0.4, 3), "A", name="linear")
    )
    subjects, _, notes = read([*runs, str(again)])
    assert [s.name for s in subjects] == ["A", "B"] and "holds A again" in notes[0]
    assert len(subjects[0].results) == 2


# ---- what is refused ----


def test_other_protocols_are_left_out_with_both_values(tmp_path):
    a = run(
        tmp_path / "A",
        result(said(0.5, 1), "A"),
        result(said(0.5, 1), "A", name="linear", head={"rate": 0.1}),
    )
    linear = result(said(0.7, 2), "B", name="linear", head={"rate": 0.3})
    b = run(tmp_path / "B", result(said(0.7, 2), "B"), linear, result(said(0.7, 2), "B", name="svm"))
    board = compare([str(a), str(b)])
    assert [row.number for row in board.rows] == ["knn accuracy"]
    assert board.left_out == [
        "linear accuracy of A and B cannot be compared: their protocols differ in head.rate (0.1 and 0.3)",
        "only B has: svm accuracy",
    ]
    with pytest.raises(
        TapetumError, match=r"nothing to compare A with: linear accuracy of A and B .*0\.1 and 0\.3"
    ):
        compare([str(a), str(b)], wanted=["linear"])
    with pytest.raises(TapetumError, match="did you mean 'linear'"):
        compare([str(a), str(b)], wanted=["liner"])


def test_the_nearest_pair_is_named_where_nothing_is_common(tmp_path):
    near = result(said(0.7, 2), "B", head={"k": 5})
    far = result(said(0.7, 2), "B", head={"k": 6, "temperature": 1}, data="other")
    a = run(tmp_path / "A", result(said(0.5, 1), "A", head={"k": 20}))
    b = run(tmp_path / "B", far, near)
    with pytest.raises(TapetumError, match=r"differ in head\.k \(20 and 5\)"):
        compare([str(a), str(b)])
    c = run(tmp_path / "C", result(said(0.5, 1), "C", name="svm"))
    with pytest.raises(TapetumError, match="only A has: knn accuracy; only C has: svm accuracy"):
        compare([str(a), str(c)])
    with pytest.raises(TapetumError, match="nothing to compare A with"):
        compare([str(a)])


def test_files_that_are_none_are_said_in_one_sentence(tmp_path, runs):
    (tmp_path / "bare").mkdir()
    (tmp_path / "empty.json").write_text('{"format": 2, "results": []}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text("[]")
    changed = json.loads((tmp_path / "A" / "results.json").read_text())
    changed["results"][0]["protocol"]["head"] = {"k": 1}
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    for typed, words in (
        ("nowhere", "there is no "),
        ("bare", "has no results yet: measure it with `tapetum evaluate`"),
        ("empty.json", "holds no results"),
        ("broken.json", "not readable JSON"),
        ("other.json", "holds no results of format"),
        ("changed.json", "was changed after it was written"),
    ):
        with pytest.raises(TapetumError, match=words):
            compare([runs[0], str(tmp_path / typed)])
    with pytest.raises(TapetumError, match="compare needs runs"):
        compare([])
    answers = next((tmp_path / "B" / "results").glob("*.npz"))
    for path in (tmp_path / "B" / "results").glob("*.npz"):
        path.write_bytes(b"damaged")
    with pytest.raises(TapetumError, match="holds no answers"):
        compare(runs)
    for path in answers.parent.glob("*.npz"):
        path.unlink()
    [row] = compare(runs).rows
    assert "squares" in row.apart["B"].how, "without answers the error bars must do"


def test_a_number_that_one_lacks_is_compared_among_the_others(tmp_path):
    paths = [run(tmp_path / n, result(said(0.5, i), n)) for i, n in enumerate("ABC")]
    write(paths[1] / "results.json", result(said(0.5, 9), "B", name="svm"))
    write(paths[2] / "results.json", result(said(0.5, 8), "C", name="svm"))
    first, second = compare(list(map(str, paths))).rows
    assert list(first.apart) == ["B", "C"] and set(second.results) == {"B", "C"} and second.apart == {}
    assert list(compare(list(map(str, paths)), against="B").rows[1].apart) == ["C"]


def test_one_number_with_two_settings_keeps_both(tmp_path):
    paths = [
        run(tmp_path / n, *(result(said(0.5, i), n, head={"k": k}) for k in (5, 20)))
        for i, n in enumerate("AB")
    ]
    assert [row.number for row in compare(list(map(str, paths))).rows] == [
        "knn accuracy (head.k 5)",
        "knn accuracy (head.k 20)",
    ]


def test_a_run_that_knows_nothing_of_its_cost_says_nothing(tmp_path):
    assert training_cost(tmp_path) == {}
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "knn": 0.5}\n{"step": 1, "time": 90.0}\n{"st')
    assert training_cost(tmp_path) == {"minutes": 1.5}


# ---- over all ----

SETS = [("cats", "natural"), ("dogs", "natural"), ("cells", "specialised")]


@pytest.fixture
def suite(tmp_path):
    """Six encoders on three sets, two protocols."""
    paths = []
    for i, name in enumerate("ABCDEF"):
        found = [
            result(said(0.4 + 0.05 * i, 10 * i + j), name, name=protocol, data=data, set=data, group=group)
            for protocol in ("knn", "svm")
            for j, (data, group) in enumerate(SETS)
        ]
        paths.append(str(run(tmp_path / name, *found)))
    return paths


def test_means_go_over_sets_and_over_their_groups(suite):
    board = compare(suite)
    found = {one.name: one for one in overall(board)}
    assert list(found) == [
        "knn accuracy, 3 sets", "knn accuracy, natural, 2 sets",
        "svm accuracy, 3 sets", "svm accuracy, natural, 2 sets",
        "all 6 numbers",
    ]  # fmt: skip
    rows = [row for row in board.rows if row.number == "knn accuracy"]
    values = np.array([[row.results[n].value for n in "ABCDEF"] for row in rows])
    whole = found["knn accuracy, 3 sets"]
    assert [whole.mean[n] for n in "ABCDEF"] == pytest.approx(values.mean(0).tolist())
    ranks = np.array([stats.rankdata(-row) for row in values])
    assert [whole.rank[n] for n in "ABCDEF"] == pytest.approx(ranks.mean(0).tolist())
    assert [whole.z[n] for n in "ABCDEF"] == pytest.approx(stats.zscore(values, axis=1).mean(0).tolist())
    error = np.sqrt(sum(row.results["C"].error_bar ** 2 for row in rows)) / 3
    assert whole.error["C"] == pytest.approx(error)
    gain, low, high = whole.gain["C"]
    assert gain == pytest.approx(whole.mean["C"] - whole.mean["A"]) and low < gain < high
    assert found["knn accuracy, natural, 2 sets"].mean["B"] == pytest.approx(values[:2, 1].mean())
    assert found["all 6 numbers"].mean == {} and found["all 6 numbers"].rank["A"] > 5


def test_the_lowest_error_ranks_first_and_ties_share(tmp_path):
    paths = []
    for name, value in (("A", 1.0), ("B", 3.0), ("C", 1.0)):
        parts = [
            replace(result(None, name, data=d, value=value, set=d), name="calibration error")
            for d in ("x", "y")
        ]
        paths.append(str(run(tmp_path / name, *parts)))
    whole = overall(compare(paths))[0]
    assert whole.rank == {"A": 1.5, "B": 3.0, "C": 1.5}
    assert whole.z["A"] > 0 > whole.z["B"]


def test_a_set_that_one_lacks_does_not_count(suite, tmp_path):
    few = run(tmp_path / "G", *(result(said(0.9, 1), "G", data=d, set=d) for d in ("cats", "dogs")))
    board = compare([*suite, str(few)])
    assert [one.name for one in overall(board)] == ["knn accuracy, 2 sets", "all 2 numbers"]


def test_ranks_of_two_protocols_are_correlated(suite):
    [found] = correlations(board := compare(suite))
    means = [
        [np.mean([r.results[n].value for r in board.rows if r.number == number]) for n in "ABCDEF"]
        for number in ("knn accuracy", "svm accuracy")
    ]
    assert (found.first, found.second, found.subjects) == ("knn accuracy", "svm accuracy", 6)
    assert found.value == pytest.approx(stats.spearmanr(*means).statistic)
    assert found.interval[0] < found.value <= found.interval[1]
    assert list(correlations(compare(suite[:4]))) == [], "four are too few"
