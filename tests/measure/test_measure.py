"""The measures against scikit-learn and closed forms."""

import numpy as np
import pytest
import scipy.stats
import sklearn.linear_model
import sklearn.metrics
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F

from tapetum.measure import knn, metrics, spectrum
from tapetum.measure.logistic import logistic_path, ridge_path


def blobs(n, d=16, classes=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=g)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(9))
    return centres[y] + 1.5 * torch.randn(n, d, generator=g), y


def by_sklearn(x, y, queries, k, temperature):
    model = KNeighborsClassifier(
        k, weights=lambda d: np.exp((1 - d) / temperature), metric="cosine", algorithm="brute"
    )
    return torch.from_numpy(model.fit(x, y).predict_proba(queries)).float()


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (7, 1.0)])
def test_knn_equals_scikit_learn(k, temperature):
    (x, y), (q, _) = blobs(400), blobs(90, seed=1)
    ours = knn.knn_scores(x, y, q, k, temperature)
    torch.testing.assert_close(ours, by_sklearn(x, y, q, k, temperature), atol=1e-5, rtol=0)


def test_knn_in_portions_is_the_same(monkeypatch):
    (x, y), (q, _) = blobs(300), blobs(70, seed=1)
    whole, alone = knn.knn_scores(x, y, q), knn.knn_scores(x, y, x, leave_one_out=True)
    monkeypatch.setattr(knn, "_CELLS", 300 * 11)
    torch.testing.assert_close(knn.knn_scores(x, y, q), whole)
    torch.testing.assert_close(knn.knn_scores(x, y, x, leave_one_out=True), alone)


def test_leave_one_out_equals_a_bank_without_the_row():
    x, y = blobs(60)
    ours = knn.knn_scores(x, y, x, k=5, leave_one_out=True)
    for i in (0, 31, 59):
        rest = torch.arange(60) != i
        torch.testing.assert_close(ours[i : i + 1], knn.knn_scores(x[rest], y[rest], x[i : i + 1], k=5))


def test_rows_without_a_label_do_not_vote():
    (x, y), (q, truth) = blobs(200), blobs(50, seed=1)
    hidden = y.clone()
    hidden[::2] = -1
    torch.testing.assert_close(knn.knn_scores(x, hidden, q), knn.knn_scores(x[1::2], y[1::2], q))
    assert knn.knn_accuracy((x, y), (q, truth)) == pytest.approx(
        float((by_sklearn(x, y, q, 20, 0.07).argmax(1) == truth).float().mean())
    )


def test_knn_survives_few_rows_and_sharp_temperatures():
    x, y = torch.eye(3), torch.arange(3)
    torch.testing.assert_close(knn.knn_scores(x, y, x, k=20, temperature=1e-3), torch.eye(3))
    with pytest.raises(ValueError, match="no labelled row"):
        knn.knn_scores(x, -torch.ones(3, dtype=torch.long), x, classes=3)


def test_effective_rank_closed_forms():
    q = torch.linalg.qr(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)))[0]
    assert spectrum.effective_rank(q) == pytest.approx(8, abs=1e-3)
    assert spectrum.effective_rank(q.T) == pytest.approx(8, abs=1e-3)
    assert spectrum.effective_rank(torch.ones(50, 8)) == pytest.approx(1, abs=1e-3)
    p = torch.tensor([0.5, 0.3, 0.2])
    expected = float((-(p * p.log()).sum()).exp())
    assert spectrum.effective_rank(7 * q[:, :3] * p) == pytest.approx(expected, abs=1e-3)
    assert spectrum.effective_rank(torch.zeros(50, 8)) == pytest.approx(1, abs=1e-3)


def test_singular_values_equal_the_decomposition():
    x = torch.randn(40, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(spectrum.singular_values(x), torch.linalg.svdvals(x))


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_scikit_learn(seed):
    g = np.random.default_rng(seed)
    truth, predicted = g.integers(0, 4, 200), g.integers(0, 5, 200)
    truth[truth == 2] = 3  # a class that is predicted but not there
    ours = metrics.balanced_accuracy(torch.tensor(predicted), torch.tensor(truth))
    with pytest.warns(UserWarning, match="not in y_true"):
        assert ours == pytest.approx(balanced_accuracy_score(truth, predicted))
    scores = g.integers(0, 20, 200) / 7  # many ties
    positive = torch.tensor(truth > 0)
    assert metrics.auroc(torch.tensor(scores), positive) == pytest.approx(roc_auc_score(positive, scores))
    assert np.isnan(metrics.auroc(torch.tensor(scores), positive | True))


def test_the_bootstrap_of_an_accuracy_is_binomial():
    right = torch.arange(400) % 5 > 0  # 80 %
    drawn = metrics.bootstrap(lambda rows: float(right[rows].double().mean()), 400, repeats=1000)
    assert float(drawn.std()) == pytest.approx((0.8 * 0.2 / 400) ** 0.5, rel=0.1)
    assert (drawn.diff() >= 0).all() and float(drawn.mean()) == pytest.approx(0.8, abs=0.003)


def test_metrics_equal_scikit_learn_and_scipy():
    g = np.random.default_rng(0)
    scores, truth = g.integers(0, 20, (300, 4)) / 7, g.integers(0, 2, (300, 4))  # with many ties
    truth[:, 3] = 0
    ours = metrics.mean_average_precision(torch.tensor(scores), torch.tensor(truth))
    peer = sklearn.metrics.average_precision_score(truth[:, :3], scores[:, :3], average="macro")
    assert ours == pytest.approx(peer)
    a, b = torch.tensor(scores[:, 0]), torch.tensor(scores[:, 0] + g.integers(0, 9, 300))
    assert metrics.r2(a, b) == pytest.approx(sklearn.metrics.r2_score(b, a))
    assert metrics.spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    expected = sklearn.metrics.mean_absolute_error(b, a)
    assert metrics.mean_absolute_error(a, b) == pytest.approx(expected)


def test_knn_average_is_the_weighted_mean_of_what_neighbours_say():
    g = torch.Generator().manual_seed(0)
    x, q, y = torch.randn(50, 6, generator=g), torch.randn(9, 6, generator=g), torch.arange(50) % 3
    said = torch.nn.functional.one_hot(y, 3).float()
    torch.testing.assert_close(knn.knn_average(x, said, q, 7), knn.knn_scores(x, y, q, 7))


def test_weighted_regression_is_that_of_repeated_rows():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 5, generator=g, dtype=torch.float64), torch.arange(60) % 3
    times = torch.randint(1, 4, (60,), generator=g)
    ((weight, bias),) = logistic_path(x, y, 3, [0.01], weights=times.double())
    ((same, too),) = logistic_path(x.repeat_interleave(times, 0), y.repeat_interleave(times), 3, [0.01])
    torch.testing.assert_close(weight, same, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(bias - bias.mean(), too - too.mean(), atol=1e-5, rtol=1e-4)


def test_ridge_and_binary_regressions_equal_scikit_learn():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(80, 12, generator=g, dtype=torch.float64)
    y = x[:, 0] + torch.randn(80, generator=g, dtype=torch.float64)
    for penalty, (weight, bias) in zip([1.0, 1e-3], ridge_path(x, y, [1.0, 1e-3])):
        peer = sklearn.linear_model.Ridge(alpha=80 * penalty).fit(x, y)
        np.testing.assert_allclose(weight[0], peer.coef_, atol=1e-9)
        assert float(bias) == pytest.approx(peer.intercept_)
    many = torch.stack([(y > 0), (x[:, 1] > 0.3)], 1).double()
    for penalty, (weight, bias) in zip([1.0, 1e-3], logistic_path(x, many, 2, [1.0, 1e-3])):
        for c in range(2):
            peer = LogisticRegression(C=1 / (80 * penalty), tol=1e-10, max_iter=9999).fit(x, many[:, c])
            np.testing.assert_allclose(weight[c], peer.coef_[0], atol=2e-4)
            assert float(bias[c]) == pytest.approx(float(peer.intercept_[0]), abs=2e-4)


@pytest.mark.parametrize(("n", "d", "classes"), [(300, 20, 5), (40, 70, 3)])
def test_logistic_regression_equals_scikit_learn(n, d, classes):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=g, dtype=torch.float64) @ torch.randn(
        d, d, generator=g, dtype=torch.float64
    )
    y = (x[:, :classes] + 3 * torch.randn(n, classes, generator=g, dtype=torch.float64)).argmax(1)
    penalties = [10.0, 0.1, 1e-3]
    for penalty, (weight, bias) in zip(penalties, list(logistic_path(x, y, classes, penalties))):
        peer = LogisticRegression(C=1 / (n * penalty), tol=1e-10, max_iter=20000).fit(x, y)
        ours = (x @ weight.T + bias).softmax(1)
        torch.testing.assert_close(ours, torch.from_numpy(peer.predict_proba(x)), atol=1e-4, rtol=0)
        single = next(logistic_path(x.float(), y, classes, [penalty]))
        torch.testing.assert_close((x @ single[0].T + single[1]).softmax(1), ours, atol=5e-3, rtol=0)


def test_logistic_regression_of_two_classes():
    x, y = blobs(200, classes=2)
    x = x.double()
    weight, bias = next(logistic_path(x, y, 2, [0.01]))
    peer = LogisticRegression(C=2 / (200 * 0.01), tol=1e-10, max_iter=20000).fit(x, y)  # one weight, not two
    torch.testing.assert_close(
        (x @ weight.T + bias).softmax(1), torch.from_numpy(peer.predict_proba(x)), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("k", [1, 6, 500])
def test_neighbours_are_the_nearest_others(k, monkeypatch):
    monkeypatch.setattr(knn, "_CELLS", 60 * 7)
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    cosines = F.normalize(x, dim=1) @ F.normalize(x, dim=1).T
    found = knn.neighbours(x, k)
    assert found.shape == (60, min(k, 59))
    for i, row in enumerate(found.tolist()):
        others = sorted((j for j in range(60) if j != i), key=lambda j: -float(cosines[i, j]))
        assert row == others[:k]
