"""Zooms and places: encoders that see the middle or a corner alone, and windows against plain slices."""

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
from tapetum.evaluate.protocols import zoom
from tapetum.evaluate.robust import Judge
from tapetum.features import Extractor

SIDE = 16


class Middle(nn.Module):
    """The colour in the middle of what it is shown."""

    def forward(self, x):
        return x[:, :, 6:10, 6:10].mean((2, 3))


def write(folder: Path, per_class: int, corner: tuple[int, int] | None, seed: int) -> Path:
    """Gray images with a red or a green square: in the middle, or at one place of a 3 x 3 grid."""
    g = np.random.default_rng(seed)
    for c, name in enumerate(("red", "green")):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            x = g.normal(110, 8, (48, 48, 3))
            top, left = corner or (16, 16)
            x[top : top + 16, left : left + 16, c] += 90
            Image.fromarray(x.clip(0, 255).astype("u1")).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "cache"))
    train = open_data(write(tmp_path / "train", 10, None, 0))

    def make(corner=None) -> Case:
        test = open_data(write(tmp_path / f"test{corner}", 8, corner, 1))
        return Case(train, test, Extractor(Encoder.wrap(Middle(), SIDE, name="middle"), workers=1))

    return make


def test_the_map_shows_where_things_are(made):
    case = made((0, 32))  # at the right above: out of the middle's sight
    best, mean, surest = zoom.protocol(case, zooms=(1.0, 3.0), head="knn")
    where = np.array(best.details["accuracy at each place"]["3"])
    assert where[0, 2] == 1 and where.shape == (3, 3)
    assert (where.ravel()[[0, 1, 3, 4, 5, 6, 7, 8]] < 0.9).all()
    assert best.value == 1 and best.details["clean accuracy"] < 0.9
    assert best.value >= max(mean.value, surest.value)
    assert [r.name for r in (best, mean, surest)] == [
        "accuracy, best framing", "accuracy, mean over framings", "accuracy, surest framing",
    ]  # fmt: skip


def test_numbers_are_those_of_the_framings(made):
    case = made((0, 32))
    best, mean, surest = zoom.protocol(case, zooms=(0.5, 1.0, 2.0), grid=2, head="logistic")
    judge = Judge(case, "logistic", 100)
    every = []
    for factor in (0.5, 1.0, 2.0):
        every += [judge.scores(x).softmax(1) for x in zoom._seen(judge, factor, 2)]
    assert len(every) == 1 + 1 + 4
    truth = judge.truth
    assert best.value == pytest.approx(
        float(torch.stack([p.argmax(1) == truth for p in every]).any(0).float().mean())
    )
    assert mean.value == pytest.approx(float((sum(every).argmax(1) == truth).float().mean()))
    sure = []
    for i in range(len(truth)):
        entropies = [float(torch.distributions.Categorical(p[i]).entropy()) for p in every]
        sure.append(int(every[int(np.argmin(entropies))][i].argmax()))
    assert surest.value == pytest.approx(float((torch.tensor(sure) == truth).float().mean()))


def test_windows_are_parts_of_a_larger_image(made):
    case = made()
    judge = Judge(case, "knn", 100)
    seen = zoom._seen(judge, 3.0, 3)
    encoder = case.extractor.encoder
    large = Encoder.wrap(nn.Flatten(), 48)
    source = judge.source
    for row in (0, 11):
        whole = torch.from_numpy(large.prepare(source.read(row)))[None].float() / 255
        for i, (top, left) in enumerate((y, x) for y in (0, 16, 32) for x in (0, 16, 32)):
            part = encoder(whole[:, :, top : top + 16, left : left + 16])
            assert torch.allclose(seen[i, row], part[0], atol=1e-5)
    assert torch.equal(zoom._seen(judge, 1.0, 3)[0], judge.clean)
    small = zoom._seen(judge, 0.5, 3)
    assert small.shape == (1, 16, 3)


def test_a_window_beyond_the_image_is_black():
    x = torch.ones(1, 1, 4, 4)
    out = zoom.window(x, -2, -2, 8)
    assert out.shape == (1, 1, 8, 8) and out.sum() == 16 and out[0, 0, 2:6, 2:6].sum() == 16
    assert zoom.window(torch.arange(16.0).view(1, 1, 4, 4), 1, 2, 2).flatten().tolist() == [6, 7, 10, 11]


def test_one_framing_is_not_compared(made):
    with pytest.raises(TapetumError, match="these settings have only one"):
        zoom.protocol(made(), zooms=(1.0,), head="knn")
