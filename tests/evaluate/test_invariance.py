"""Invariance and equivariance: encoders whose answers are known, and scikit-learn for the maps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from torch import nn

from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.encoders import Encoder
from tapetum.evaluate.altered import drawn
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import invariance
from tapetum.features import Extractor
from tapetum.measure.logistic import ridge_path
from tapetum.views import View, fast


class Columns(nn.Module):
    """Means over the columns of a view, which a flip turns around."""

    def forward(self, x):
        return x.mean(2).flatten(1)


class Sums(nn.Module):
    """Mean and spread of each channel: nothing that a flip could change."""

    def forward(self, x):
        return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)


class Constant(nn.Module):
    def forward(self, x):
        return torch.ones(len(x), 5) + 1e-6 * x.mean((1, 2, 3))[:, None]


def write(folder: Path, count: int, seed: int) -> Path:
    """Smooth coloured images."""
    folder.mkdir()
    g = np.random.default_rng(seed)
    for i in range(count):
        small = Image.fromarray(g.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        small.resize((16, 16), Image.Resampling.BICUBIC).save(folder / f"{i:03d}.png")
    return folder


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(fast, "can", lambda view, pixels: False)  # compiling takes longer than all of this
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "cache"))
    parts = [
        open_data(write(tmp_path / n, count, i), "none")
        for i, (n, count) in enumerate((("a", 120), ("b", 60)))
    ]

    def make(net, **settings) -> Case:
        return Case(*parts, Extractor(Encoder.wrap(net, 16, name=type(net).__name__), workers=1), **settings)

    return make


def values(results) -> dict[str, float]:
    return {r.name: r.value for r in results}


def test_what_does_not_move_is_invariant_and_what_is_turned_around_is_equivariant(made):
    columns = values(invariance.protocol(made(Columns()), operations=("flip",)))
    sums = values(invariance.protocol(made(Sums()), operations=("flip",)))
    assert sums["invariance to flip"] == pytest.approx(1, abs=1e-5)
    assert columns["invariance to flip"] < 0.7
    assert columns["equivariance to flip"] == pytest.approx(1, abs=1e-3)
    assert set(columns) == {"invariance to flip", "equivariance to flip"}  # a flip has no amount


def test_a_collapsed_encoder_is_not_invariant(made):
    (found, *_) = invariance.protocol(made(Constant()), operations=("rotate",))
    assert found.value == 0 and "they have collapsed" in found.notes[0]


def test_amounts_are_read_where_features_hold_them(made):
    light = invariance.protocol(made(Sums()), operations=("brightness", "rotate"), strengths=(0.5,))
    found = values(light)
    assert found["amount of brightness"] > 0.7
    assert found["amount of rotate"] < 0.4
    weak = values(invariance.protocol(made(Columns()), operations=("rotate",), strengths=(0.2, 1.0)))
    assert weak["invariance to rotate at 0.2"] > weak["invariance to rotate at 1"] + 0.1


def test_the_numbers_are_their_definitions(made):
    case = made(Columns())
    results = invariance.protocol(case, operations=("crop",))
    view = drawn(View((invariance.OPERATIONS["crop"](1.0),)), 0)
    x, y = (np.array(case.of("train", view=v).x, np.float64) for v in (None, view))
    a, b = (np.array(case.of("test", view=v).x, np.float64) for v in (None, view))
    cos = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    others = (cos.sum() - np.trace(cos)) / (60 * 59)
    assert results[0].value == pytest.approx((np.trace(cos) / 60 - others) / (1 - others), abs=1e-5)
    scores = []
    mean, std = x.mean(0), x.std(0)
    for penalty in invariance.PENALTIES:
        model = Ridge(alpha=120 * penalty).fit((x - mean) / std, y)
        scores.append(r2_score(b, model.predict((a - mean) / std), multioutput="variance_weighted"))
    assert min(abs(np.array(scores) - results[1].value)) < 1e-3  # at one of the penalties
    assert results[1].value > max(scores) - 0.1
    assert results[0].n == 60 and results[0].answers.answers.shape == (1, 60)


def test_amounts_are_those_that_the_pictures_were_made_with(made):
    """A brightness's factor against the pixels."""
    case = made(Sums())
    operation = invariance.OPERATIONS["brightness"](0.3)
    factor = invariance._amounts(operation, case.test.keys, case)[:, 0]
    clean, light = (
        torch.from_numpy(np.array(case.of("test", view=v).x)) for v in (None, drawn(View((operation,)), 0))
    )
    spread = light[:, 3:].sum(1) / clean[:, 3:].sum(1)
    assert torch.corrcoef(torch.stack([factor, spread]))[0, 1] > 0.95 and factor.std() > 0.1


def test_one_set_of_images_is_halved_and_needs_no_labels(made):
    case = made(Sums())
    alone = Case(case._parts["train"], case._parts["train"], case.extractor, alone=True, split="all images")
    found = invariance.protocol(alone, operations=("flip",))
    assert found[0].n == 60 and found[0].protocol["head"]["train images"] == 60
    few = invariance.protocol(alone, operations=("flip",), images=20, train_images=30)
    assert few[0].n == 20 and few[0].protocol_id != found[0].protocol_id


def test_every_operation_runs_and_bad_ones_are_one_sentence(made):
    case = made(Sums())
    found = values(
        invariance.protocol(case, operations=tuple(invariance.OPERATIONS), images=20, train_images=20)
    )
    assert len(found) == 2 * 12 + 10 and np.isfinite(list(found.values())).all()
    with pytest.raises(TapetumError, match="unknown operation 'rotat'; did you mean 'rotate'"):
        invariance.protocol(case, operations=("rotat",))


def test_ridge_of_many_columns_equals_scikit_learn():
    g = torch.Generator().manual_seed(0)
    for n, d in ((40, 6), (12, 30)):
        x, y = torch.randn(n, d, generator=g).double(), torch.randn(n, 3, generator=g).double() + 5
        (weight, bias), (first, one) = next(ridge_path(x, y, [0.1])), next(ridge_path(x, y[:, 0], [0.1]))
        peer = Ridge(alpha=0.1 * n).fit(x, y)
        assert np.allclose(weight, peer.coef_, atol=1e-6) and np.allclose(bias, peer.intercept_)
        assert torch.allclose(first[0], weight[0]) and torch.allclose(one[0], bias[0])
