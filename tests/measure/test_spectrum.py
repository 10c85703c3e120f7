"""Label-free measures against closed forms and slow writings; planted collapse must be seen."""

import numpy as np
import pytest
import torch

from tapetum.measure import hypersphere, spectrum


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def with_variances(values, n=400):
    """Rows whose covariance has exactly these eigenvalues."""
    x = gaussian(n, len(values))
    q = torch.linalg.qr(x - x.mean(0))[0]
    turn = torch.linalg.qr(gaussian(len(values), len(values), 1))[0]
    return (q * (n * torch.as_tensor(values, dtype=torch.double)).sqrt()) @ turn + 3.0


def test_variances_equal_numpy(monkeypatch):
    x = with_variances([5.0, 3.0, 0.5])
    peer = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))[::-1].copy()
    torch.testing.assert_close(spectrum.variances(x), torch.from_numpy(peer))
    monkeypatch.setattr(spectrum, "_ROWS", 7)
    torch.testing.assert_close(spectrum.variances(x), torch.from_numpy(peer))
    wide = gaussian(6, 20)
    torch.testing.assert_close(spectrum.singular_values(wide), torch.linalg.svdvals(wide))


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.5])
def test_the_exponent_of_a_power_law_is_found(exponent):
    values = torch.arange(1, 121, dtype=torch.double) ** -exponent
    values[:10] *= 7  # outside of the range of ranks
    assert spectrum.power_law(values) == pytest.approx(exponent, abs=1e-9)
    assert spectrum.power_law(spectrum.variances(with_variances(values))) == pytest.approx(exponent, abs=1e-6)


def test_the_power_law_equals_a_weighted_line():
    values = spectrum.variances(gaussian(300, 80) * torch.linspace(3, 0.1, 80))
    rank = np.arange(11, 81)
    line = np.polyfit(np.log(rank), np.log(values[10:80].numpy()), 1, w=rank**-0.5)
    assert spectrum.power_law(values) == pytest.approx(-line[0])
    assert np.isnan(float(spectrum.power_law(values[:19])))
    assert np.isnan(float(spectrum.power_law(spectrum.variances(gaussian(300, 5) @ gaussian(5, 80)))))


def test_ranks_in_closed_form():
    x = with_variances([4.0, 2.0, 1.0, 1.0])
    assert spectrum.nesum(spectrum.variances(x)) == pytest.approx(2)
    assert spectrum.participation_ratio(spectrum.variances(x)) == pytest.approx(64 / 22)
    sigma = torch.linalg.svdvals(x)
    expected = float(torch.linalg.matrix_norm(x).square() / torch.linalg.matrix_norm(x, 2).square())
    assert spectrum.nesum(sigma.square()) == pytest.approx(expected)
    assert spectrum.nesum(spectrum.singular_values(x).square()) == pytest.approx(expected)
    for measure in (spectrum.nesum, spectrum.participation_ratio):
        assert measure(torch.ones(7)) == pytest.approx(7)
        assert measure(torch.zeros(7)) == 0


MEASURES = [spectrum.rank_me, spectrum.nesum, spectrum.participation_ratio]


@pytest.mark.parametrize(("n", "d"), [(300, 8), (30, 90)])
@pytest.mark.parametrize("centred", [False, True])
def test_measured_errors_are_the_spread_over_samples(n, d, centred):
    scale = torch.linspace(2, 0.5, d) if n > d else torch.arange(1, d + 1) ** -0.6
    found = [spectrum.measured(gaussian(n, d, seed) * scale + 0.2, MEASURES, centred) for seed in range(150)]
    values, errors = (torch.stack(part) for part in zip(*found))
    torch.testing.assert_close(errors.mean(0), values.std(0), rtol=0.25, atol=0)
    x = gaussian(n, d) * scale + 0.2
    slow = spectrum.variances(x) if centred else torch.linalg.svdvals(x).square()
    torch.testing.assert_close(values[0], torch.stack([measure(slow) for measure in MEASURES]))


def test_measured_takes_a_collapse_and_what_is_not_defined():
    value, error = spectrum.measured(torch.ones(40, 12), [*MEASURES, spectrum.power_law], centred=True)
    torch.testing.assert_close(value[:3], torch.tensor([1.0, 0, 0], dtype=torch.double), atol=1e-4, rtol=0)
    assert error[:3].isfinite().all() and value[3].isnan()


def slow_lidar(x, delta):
    n, v, d = x.shape
    means = [row.mean(0) for row in x.numpy()]
    middle = np.mean(means, axis=0)
    between = sum(np.outer(m - middle, m - middle) for m in means) / n
    within = sum(np.outer(z - m, z - m) for m, row in zip(means, x.numpy()) for z in row) / (n * v)
    values = np.linalg.eigvals(np.linalg.solve(within + delta * np.eye(d), between)).real.clip(0)
    p = values / values.sum() + 1e-7
    return np.exp(-(p * np.log(p)).sum())


@pytest.mark.parametrize("delta", [1e-4, 0.5])
def test_lidar_equals_a_slow_writing(delta):
    x = gaussian(40, 6)[:, None] + 0.4 * gaussian(40 * 5, 6, 1).view(40, 5, 6) * torch.arange(1, 7)
    assert spectrum.lidar(x, delta) == pytest.approx(slow_lidar(x, delta), rel=1e-6)
    wide = gaussian(10, 3 * 32).view(10, 3, 32)  # fewer images than dimensions
    assert spectrum.lidar(wide, delta) == pytest.approx(slow_lidar(wide, delta), rel=1e-4)


def test_lidar_in_closed_form():
    means = with_variances([1.0] * 8)
    x = means[:, None] + torch.cat([torch.eye(8), -torch.eye(8)])  # views spread alike in all directions
    assert spectrum.lidar(x.double()) == pytest.approx(8, abs=1e-3)


def test_collapse_is_seen():
    whole, line = gaussian(500, 32), gaussian(500, 1) @ gaussian(1, 32) + 1e-3 * gaussian(500, 32, 2)
    for x, low, high in ((whole, 25, 32.1), (line, 1, 2.5)):
        views = x[:, None] + 0.1 * gaussian(500 * 8, 32, 3).view(500, 8, 32)
        measures = (
            spectrum.effective_rank(x),
            spectrum.nesum(spectrum.variances(x)),
            spectrum.participation_ratio(spectrum.variances(x)),
            spectrum.nesum(spectrum.singular_values(x).square()),
            spectrum.lidar(views),
        )
        for value in measures:
            assert low - 8 * (low > 1) <= value <= high
    assert hypersphere.uniformity(line) > hypersphere.uniformity(whole) + 1
    point = torch.ones(50, 8)
    assert hypersphere.uniformity(point) == pytest.approx(0, abs=1e-6)
    assert hypersphere.alignment(point.view(25, 2, 8)).max() == 0


@pytest.mark.parametrize("cells", [2**22, 36])
def test_uniformity_equals_a_slow_writing(cells, monkeypatch):
    monkeypatch.setattr(hypersphere, "_CELLS", cells)
    x = gaussian(50, 7)
    unit = torch.nn.functional.normalize(x, dim=1)
    slow = torch.pdist(unit).pow(2).mul(-2).exp().mean().log()
    assert hypersphere.uniformity(x) == pytest.approx(float(slow), abs=1e-5)
    one = torch.cat([torch.cdist(unit[:1], unit[1:])]).pow(2).mul(-2).exp().mean()
    assert float(hypersphere.potential(x)[0]) == pytest.approx(float(one), abs=1e-6)


def test_alignment_equals_a_slow_writing():
    x = gaussian(5 * 3, 4).view(5, 3, 4)
    unit = torch.nn.functional.normalize(x, dim=2)
    for power in (1, 2):
        slow = [np.mean([(u[i] - u[j]).norm() ** power for i, j in ((0, 1), (0, 2), (1, 2))]) for u in unit]
        torch.testing.assert_close(hypersphere.alignment(x, power), torch.tensor(slow, dtype=torch.double))
    opposite = torch.stack([unit[:, 0], -unit[:, 0]], 1)
    torch.testing.assert_close(hypersphere.alignment(opposite), torch.full((5,), 4.0, dtype=torch.double))
