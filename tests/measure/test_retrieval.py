"""Retrieval's measures against torchmetrics, pytorch-metric-learning, scikit-learn and slow writings."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch.nn import functional as F

import tapetum.base.torchvision_compat  # noqa: F401 - torchmetrics imports torchvision by itself
from tapetum.measure import retrieval

torchmetrics = pytest.importorskip("torchmetrics.functional.retrieval")
accuracy_calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")


def blobs(n, seed, d=10, classes=5):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=g)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(7))
    return centres[y] + 1.2 * torch.randn(n, d, generator=g), y


@pytest.fixture(scope="module")
def sets():
    return blobs(300, 0), blobs(40, 1)


def cosines(queries, gallery):
    return F.normalize(queries, dim=1) @ F.normalize(gallery, dim=1).T


def found(sets, **settings):
    (x, y), (queries, truth) = sets
    return list(retrieval.ranked(x, queries, retrieval.same_class(y.numpy(), truth.numpy(), **settings)))


def test_ranks_are_places_in_the_sorted_list(sets):
    (x, y), (queries, truth) = sets
    for ranks, row, label in zip(found(sets), cosines(queries, x), truth):
        order = row.argsort(descending=True)
        assert ranks.tolist() == (y[order] == label).nonzero()[:, 0].tolist()


def test_measures_equal_torchmetrics(sets):
    (x, y), (queries, truth) = sets
    for ranks, row, label in zip(found(sets), cosines(queries, x), truth):
        right, row = y == label, row + 1  # torchmetrics takes no positive image of a score below 0 for found
        assert retrieval.average_precision(ranks) == pytest.approx(
            float(torchmetrics.retrieval_average_precision(row, right)), abs=1e-6
        )
        assert retrieval.average_precision(ranks) == pytest.approx(average_precision_score(right, row))
        assert retrieval.r_precision(ranks) == pytest.approx(
            float(torchmetrics.retrieval_r_precision(row, right))
        )
        for k in (1, 3, 10, 300):
            hit = float(torchmetrics.retrieval_hit_rate(row, right, top_k=k))
            assert retrieval.recall_at(ranks, k) == hit
            precision = float(torchmetrics.retrieval_precision(row, right, top_k=k))
            assert retrieval.precision_at(ranks, k) == pytest.approx(precision)


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_measures_equal_pytorch_metric_learning(sets, leave_one_out):
    (x, y), (queries, truth) = sets
    if leave_one_out:
        x, y = queries, truth

    def nearest(query, k, reference, ref_includes_query):
        near = cosines(query, reference)
        if ref_includes_query:
            near.fill_diagonal_(-2)
            k -= 1
        return near.sort(dim=1, descending=True).values[:, :k], near.argsort(dim=1, descending=True)[:, :k]

    names = ("precision_at_1", "mean_average_precision", "mean_average_precision_at_r", "r_precision")
    calculator = accuracy_calculator.AccuracyCalculator(include=names, k=len(x), knn_func=nearest)
    peer = calculator.get_accuracy(queries, truth, x, y, ref_includes_query=leave_one_out)
    ranks = found(((x, y), (queries, truth)), leave_one_out=leave_one_out)
    ours = [retrieval.precision_at, retrieval.average_precision, retrieval.map_at_r, retrieval.r_precision]
    for name, measure in zip(names, ours):
        each = [measure(r, 1) if name == "precision_at_1" else measure(r) for r in ranks]
        assert np.mean(each) == pytest.approx(peer[name], abs=1e-9), name


def test_portions_and_left_out_rows(sets, monkeypatch):
    whole = found(sets)
    monkeypatch.setattr(retrieval, "_CELLS", 300 * 7)
    assert all((a == b).all() for a, b in zip(whole, found(sets)))
    (x, y), (queries, truth) = sets
    hidden = y.clone()
    hidden[::3] = -1
    kept = y != hidden.new_tensor(99)
    kept[::3] = False
    rest = found(((x[kept], y[kept]), (queries, truth)))
    assert all((a == b).all() for a, b in zip(rest, found(((x, hidden), (queries, truth)))))


def test_leave_one_out_equals_a_gallery_without_the_query(sets):
    (x, y), _ = sets
    alone = found(((x, y), (x, y)), leave_one_out=True)
    for i in (0, 150, 299):
        rest = torch.arange(300) != i
        assert alone[i].tolist() == found(((x[rest], y[rest]), (x[i : i + 1], y[i : i + 1])))[0].tolist()


def test_features_that_are_all_the_same_score_low():
    x, y = torch.ones(20, 4), torch.arange(20) % 2
    ranks = found(((x, y), (x, y)), leave_one_out=True)
    assert all(r.tolist() == list(range(10, 19)) for r in ranks)


def test_without_positive_images_nothing_is_a_number():
    x, y = torch.eye(3), torch.arange(3)
    (ranks,) = found(((x, y), (x[:1], torch.tensor([7]))))
    measures = [retrieval.average_precision, retrieval.trapezoid_precision, retrieval.r_precision]
    measures += [
        retrieval.map_at_r,
        lambda r: retrieval.recall_at(r, 1),
        lambda r: retrieval.precision_at(r, 1),
    ]
    measures += [lambda r: retrieval.revisited_precision_at(r, 1)]
    assert len(ranks) == 0 and all(np.isnan(measure(ranks)) for measure in measures)


# ---- the revisited Oxford and Paris, written a second time from the paper's description ----


def slow_revisited(near, grades, level, k):
    """Average precision by the trapezoid rule and precision at k of one query, walking down the list."""
    positive = {"easy": ["easy"], "medium": ["easy", "hard"], "hard": ["hard"]}[level]
    ignored = {"easy": ["hard", "junk"], "medium": ["junk"], "hard": ["easy", "junk"]}[level]
    wanted = {i for name in positive for i in grades[name]}
    gone = {i for name in ignored for i in grades[name]}
    if not wanted:
        return np.nan, np.nan
    walk = [i for i in sorted(range(len(near)), key=lambda i: -near[i]) if i not in gone]
    area, recall, precision, hits = 0.0, 0.0, 1.0, 0
    seen = []  # of each image down the list: is it positive
    for i in walk:
        seen.append(i in wanted)
        hits += i in wanted
        new_recall, new_precision = hits / len(wanted), hits / len(seen)
        area += (new_recall - recall) * (precision + new_precision) / 2
        recall, precision = new_recall, new_precision
    last = len(seen) - seen[::-1].index(True)
    depth = min(k, last)
    return area, sum(seen[:depth]) / depth


def draw_grades(g, queries, n):
    grades = []
    for _ in range(queries):
        rows = g.permutation(n)[:30]
        easy, hard = g.integers(1, 10), g.integers(10, 20)
        grades.append({"easy": rows[:easy].tolist(), "hard": rows[easy:hard], "junk": rows[hard:]})
    grades[0] |= {"easy": []}
    grades[1] |= {"hard": []}
    return grades


@pytest.mark.parametrize("level", ["easy", "medium", "hard"])
def test_the_revisited_measures_equal_a_slow_writing(level):
    g = np.random.default_rng(0)
    x, queries = torch.from_numpy(g.normal(size=(120, 6))), torch.from_numpy(g.normal(size=(25, 6)))
    grades = draw_grades(g, 25, 120)
    ranks = retrieval.ranked(x, queries, retrieval.graded(grades, level, 120))
    empty = 0
    for r, row, grade in zip(ranks, cosines(queries, x).tolist(), grades):
        for k in (1, 5, 10):
            precision, at_k = slow_revisited(row, grade, level, k)
            assert retrieval.trapezoid_precision(r) == pytest.approx(precision, nan_ok=True)
            assert retrieval.revisited_precision_at(r, k) == pytest.approx(at_k, nan_ok=True)
        empty += len(r) == 0
    assert empty == {"easy": 1, "medium": 0, "hard": 1}[level]


def test_the_trapezoid_rule_by_hand():
    # precision over recall: from 1 at 0 to 1 at the first; at rank 3 from 1/3 (before) to 2/4
    assert retrieval.trapezoid_precision(np.array([0, 3])) == pytest.approx((1 + (1 / 3 + 1 / 2) / 2) / 2)
    assert retrieval.average_precision(np.array([0, 3])) == pytest.approx((1 + 1 / 2) / 2)
    assert retrieval.revisited_precision_at(np.array([0, 3]), 10) == 2 / 4
    assert retrieval.precision_at(np.array([0, 3]), 10) == 2 / 10
    assert retrieval.map_at_r(np.array([0, 3])) == 1 / 2
