"""The label-free protocol: its numbers are the measures' own, and it sees what its images do."""

import numpy as np
import pytest
import torch
from torch import nn

from tapetum import views
from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.encoders import Encoder
from tapetum.evaluate import altered
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import labelfree
from tapetum.features import Extractor
from tapetum.measure import hypersphere, manifold, spectrum

VECTORS = ["RankMe", "stable rank", "alpha-ReQ", "NESum", "participation ratio", "uniformity"]


def by_name(results):
    return {r.name: r for r in results}


@pytest.fixture
def stored(blobs, features_of):
    return features_of(*blobs(200, d=40))


def test_numbers_of_vectors_are_the_measures(stored):
    results = labelfree.protocol(Case(stored, stored, alone=True))
    assert [r.name for r in results] == VECTORS
    found, x = by_name(results), torch.from_numpy(stored.x)
    variances = spectrum.variances(x)
    expected = {
        "RankMe": spectrum.effective_rank(x),
        "stable rank": spectrum.nesum(spectrum.singular_values(x).square()),
        "alpha-ReQ": spectrum.power_law(variances),
        "NESum": spectrum.nesum(variances),
        "participation ratio": spectrum.participation_ratio(variances),
        "uniformity": hypersphere.uniformity(x),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(float(value), rel=1e-5)
        assert found[name].error_bar > 0 and found[name].n == 200
    assert "need the encoder and are left out" in found["RankMe"].notes[0]


def test_the_error_of_uniformity_is_its_spread_over_samples(features_of):
    found = []
    for seed in range(60):
        x = torch.randn(80, 5, generator=torch.Generator().manual_seed(seed)) + 0.5
        stored = features_of(x, torch.zeros(80, dtype=torch.long))
        found.append(by_name(labelfree.protocol(Case(stored, stored, alone=True)))["uniformity"])
    assert np.mean([r.error_bar for r in found]) == pytest.approx(np.std([r.value for r in found]), rel=0.3)


def test_few_directions_and_unreadable_images_are_said(features_of):
    x, y = torch.randn(60, 4), torch.zeros(60, dtype=torch.long)
    x[7] = torch.nan
    stored = features_of(x, y, damaged={7: "no image"})
    results = labelfree.protocol(Case(stored, stored, alone=True), images=50)
    assert [r.name for r in results] == [name for name in VECTORS if name != "alpha-ReQ"]
    assert results[0].n == 50
    assert any("alpha-ReQ is left out" in note for note in results[0].notes)
    assert any("1 images cannot be read" in note for note in results[0].notes)
    few = stored.take(np.arange(10, 25))
    with pytest.raises(TapetumError, match="needs 20 images that can be read; there are 15"):
        labelfree.protocol(Case(few, few, alone=True))
    with pytest.raises(TapetumError, match=r"strengths needs two or more"):
        labelfree.protocol(Case(stored, stored), strengths=(0.1,))


@pytest.fixture
def case(images, encoder):
    source = open_data(images, "none")
    return Case(source, source, Extractor(encoder), alone=True)


@pytest.mark.parametrize("alteration", ["noise", "attack"])
def test_altered_images_are_seen(case, alteration):
    results = labelfree.protocol(case, altered=20, draws=3, alteration=alteration, strengths=(0.05, 0.1))
    assert [r.name for r in results if r.name not in VECTORS] == [
        "alignment",
        "LiDAR",
        f"RMQM under {alteration}",
    ]
    found = by_name(results)
    assert all(r.n == 20 for name, r in found.items() if name not in VECTORS)
    rows = found["alignment"].answers.rows
    assert len(np.unique(rows)) == 20 and (np.diff(rows) > 0).all()
    source = case.test.source.take(rows)
    views_of = [
        case.extractor.features(source, view=altered.drawn(views.simclr(), number)).x for number in range(3)
    ]
    seen = torch.from_numpy(np.stack(views_of, 1))
    assert found["alignment"].value == pytest.approx(float(hypersphere.alignment(seen).mean()))
    assert found["LiDAR"].value == pytest.approx(spectrum.lidar(seen))
    assert found["LiDAR"].error_bar > 0
    rmqm = found[f"RMQM under {alteration}"]
    assert 0 < rmqm.value <= rmqm.details["moved"]
    assert len({r.protocol_id for r in results}) == len(results)
    again = by_name(
        labelfree.protocol(case, altered=20, draws=3, alteration=alteration, strengths=(0.05, 0.1))
    )
    assert {name: r.value for name, r in again.items()} == {name: r.value for name, r in found.items()}


def test_views_do_not_hang_on_the_batch(images, encoder):
    source = open_data(images, "none")
    for view in (altered.drawn(views.simclr(), 1), altered.noisy(0.1)):
        whole = Extractor(encoder).features(source, view=view).x.copy()
        keys = torch.arange(24)
        pixels = torch.randint(0, 255, (24, 3, 8, 8), dtype=torch.uint8)
        made = view.apply(pixels, keys)
        parts = [view.apply(pixels[i : i + 5], keys[i : i + 5]) for i in range(0, 24, 5)]
        torch.testing.assert_close(torch.cat(parts), made)
        assert made.shape == pixels.shape and made.min() >= 0 and made.max() <= 1
        assert np.isfinite(whole).all()
    assert (altered.noisy(0.0).apply(pixels, keys) * 255 - pixels).abs().max() < 1e-3
    assert float((altered.noisy(0.1).apply(0 * pixels + 128, keys) - 128 / 255).std()) == pytest.approx(
        0.1, rel=0.05
    )


def test_the_attack_moves_features_further_than_noise_of_its_size(case):
    extractor = case.extractor
    clean = torch.from_numpy(case.test.x.copy())
    attack = extractor.features(case.test.source, view=altered.attacked(extractor, 0.1)).x
    noise = extractor.features(case.test.source, view=altered.noisy(0.1)).x
    far, near = (
        manifold.steps(torch.stack([clean, torch.from_numpy(x.copy())], 1)).mean() for x in (attack, noise)
    )
    assert far > 1.5 * near
    assert all(p.grad is None for p in extractor.encoder.parameters())


def test_a_collapsed_encoder_is_seen(images):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.ones(len(x), 8) + 0 * x.mean()

    source = open_data(images, "none")
    case = Case(source, source, Extractor(Encoder.wrap(Constant(), 8, name="constant")), alone=True)
    found = by_name(labelfree.protocol(case, altered=20, draws=2, strengths=(0.1, 0.2)))
    assert found["RankMe"].value == pytest.approx(1, abs=1e-3)
    assert found["uniformity"].value == pytest.approx(0, abs=1e-6)
    assert found["RMQM under noise"].value == found["alignment"].value == 0
