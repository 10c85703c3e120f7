"""Explanations of a classifier that looks at one corner alone, and their number against a loop by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tapetum.base.errors import TapetumError
from tapetum.data.open import open_data
from tapetum.encoders import Encoder
from tapetum.evaluate.case import Case
from tapetum.evaluate.protocols import explanation
from tapetum.evaluate.robust import Judge
from tapetum.features import Extractor

SIDE, CELLS = 16, 4


class Corner(nn.Module):
    """Sees the second cell of the first line, and nothing else."""

    def forward(self, x):
        seen = x[:, :, :4, 4:8]
        return torch.cat([seen.mean((2, 3)), seen.std((2, 3))], 1)


def write(folder: Path, per_class: int, seed: int) -> Path:
    g = np.random.default_rng(seed)
    for name, level in (("bright", 160), ("dark", 90)):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            x = g.integers(0, 255, (SIDE, SIDE, 3))
            x[:4, 4:8] = g.normal(level, 40, (4, 4, 3)).clip(0, 255)
            Image.fromarray(x.astype("u1")).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture
def case(tmp_path, monkeypatch) -> Case:
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "cache"))
    parts = [open_data(write(tmp_path / name, n, i)) for i, (name, n) in enumerate((("a", 20), ("b", 12)))]
    return Case(*parts, Extractor(Encoder.wrap(Corner(), SIDE, name="corner"), workers=1))


@pytest.mark.parametrize("by", ["gradients", "integrated", "occlusion"])
def test_the_corner_that_decides_is_named_first(case, by):
    (found,) = explanation.protocol(case, by=(by,), cells=CELLS, steps=CELLS**2)
    judge = Judge(case, "logistic", 200)
    encoder = case.extractor.encoder
    blank = torch.full((1, 3, SIDE, SIDE), 1.0) * encoder.mean
    sure = judge.scores(judge.clean).softmax(1).max(1)
    without = judge.scores(encoder(blank)).softmax(1)[0, sure.indices]
    # The cell goes first: what is left is what a blank image gets, but for the curve's first sixteenth
    gap = (sure.values - without).double() * (CELLS**2 - 1) / CELLS**2
    assert found.value == pytest.approx(float(gap.mean()), abs=1e-5)
    assert found.details["insertion"] > found.details["deletion"] and found.n == 24
    assert found.details["clean accuracy"] == 1


def test_cells_named_at_random_say_nothing(case):
    named, random = explanation.protocol(case, by=("occlusion", "random"), cells=CELLS, steps=8)
    assert abs(random.value) < 3 * random.error_bar and named.value > 3 * random.error_bar
    assert random.protocol_id != named.protocol_id and random.subject_id == named.subject_id


def test_the_number_is_that_of_a_loop(case):
    """Two steps of two by two cells, by hand, for gradients."""
    (found,) = explanation.protocol(case, by=("gradients",), cells=2, steps=2)
    judge, encoder = Judge(case, "logistic", 200), case.extractor.encoder
    gaps = []
    for row in range(len(judge.source)):
        x = torch.from_numpy(encoder.prepare(judge.source.read(row))).float() / 255
        x.requires_grad_()
        scores = judge.scores(encoder(x[None]))[0]
        answer = int(scores.argmax())
        (slope,) = torch.autograd.grad(scores[answer], x)
        size = slope.abs().sum(0).reshape(2, SIDE // 2, 2, SIDE // 2).sum((1, 3)).flatten().tolist()
        first = sorted(range(4), key=lambda cell: (-size[cell], cell))[:2]
        out, kept, nothing = x.detach().clone(), x.detach().clone(), x.detach().clone()
        for cell in range(4):
            i, j = SIDE // 2 * (cell // 2), SIDE // 2 * (cell % 2)
            gone = out if cell in first else kept
            gone[:, i : i + SIDE // 2, j : j + SIDE // 2] = encoder.mean
        nothing[:] = encoder.mean
        p = [
            float(judge.scores(encoder(v[None])).softmax(1)[0, answer])
            for v in (x.detach(), out, kept, nothing)
        ]
        whole, out, kept, nothing = p
        gaps.append((nothing + 2 * kept + whole) / 4 - (whole + 2 * out + nothing) / 4)
    assert found.value == pytest.approx(np.mean(gaps), abs=1e-6)


def test_relevance_is_found_once_for_all_views(case, monkeypatch):
    asked = []
    own = explanation.attribution.occlusion
    monkeypatch.setattr(explanation.attribution, "occlusion", lambda *a: asked.append(1) or own(*a))
    explanation.protocol(case, by=("occlusion",), cells=2, steps=4)
    assert len(asked) == 24
    explanation.protocol(case, by=("occlusion",), cells=2, steps=4)
    assert len(asked) == 24  # and not at all where the store has the features


def test_numbers_for_labels_are_refused(case):
    case.kind = "number"
    with pytest.raises(TapetumError, match="one class an image"):
        explanation.protocol(case)
