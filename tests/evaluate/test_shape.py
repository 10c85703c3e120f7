"""Shape against texture and style, with encoders that see the one or the other by construction."""

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
from tapetum.evaluate.mixed import first_of_twins, of_another_class, of_another_row
from tapetum.evaluate.protocols import shape, style
from tapetum.features import Extractor

SIDE = 32


class Amplitudes(nn.Module):
    """What a shift cannot change."""

    def forward(self, x):
        return (torch.fft.rfft2(x.mean(1)).abs() + 1e-3).log().flatten(1)


class Phases(nn.Module):
    """Where things are, whatever their contrast."""

    def forward(self, x):
        f = torch.fft.rfft2(x.mean(1) - 0.5)[:, :6, :6]
        unit = f / f.abs().clamp(min=1e-6)
        return torch.cat([unit.real, unit.imag], 1).flatten(1)


class Colours(nn.Module):
    """Mean colours."""

    def forward(self, x):
        return 10 * x.mean((2, 3))


def write(folder: Path, per_class: int, seed: int) -> Path:
    """Two classes that differ in where a blob is (phase) and in how fine the noise is (amplitude)."""
    g = np.random.default_rng(seed)
    for name, middle, grain in (("cat", 9, 1), ("truck", 22, 4)):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            y, x = np.mgrid[:SIDE, :SIDE]
            blob = np.exp(-((y - middle + g.normal()) ** 2 + (x - middle + g.normal()) ** 2) / 30)
            noise = np.kron(g.normal(size=(SIDE // grain, SIDE // grain)), np.ones((grain, grain)))
            gray = (128 + 70 * blob + 12 * noise)[..., None] + np.array([0, 0, 20 if name == "cat" else -20])
            Image.fromarray(gray.clip(0, 255).astype("u1").repeat(1, 2)).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "cache"))
    parts = [open_data(write(tmp_path / name, n, i)) for i, (name, n) in enumerate((("a", 20), ("b", 15)))]

    def make(net) -> Case:
        return Case(*parts, Extractor(Encoder.wrap(net, SIDE, name=type(net).__name__), workers=1))

    return make


def test_encoders_of_shape_and_of_texture_are_told_apart(made):
    found = {net: shape.protocol(made(net()), head="knn", grid=2) for net in (Amplitudes, Phases)}
    share = {net: results[0] for net, results in found.items()}
    assert share[Amplitudes].value < 0.2 and share[Phases].value > 0.7
    counts = share[Phases].details
    assert sum(counts.values()) == 30 and share[Phases].n == counts["shape"] + counts["texture"]
    assert share[Phases].value == pytest.approx(counts["shape"] / share[Phases].n)
    names = ["shape share", "accuracy, 2 x 2 patches shuffled", "accuracy, smoothed", "accuracy, edges"]
    assert [r.name for r in found[Phases]] == names
    shuffled = {net: results[1].value for net, results in found.items()}
    smoothed = {net: results[2].value for net, results in found.items()}
    assert shuffled[Amplitudes] > shuffled[Phases] and smoothed[Phases] > 0.9
    assert found[Phases][0].details["neither"] == 0  # there are only two classes


def test_a_conflict_has_one_phase_and_the_other_amplitude():
    g = torch.Generator().manual_seed(0)
    a, b = torch.rand(3, 3, 16, 17, generator=g), torch.rand(3, 3, 16, 17, generator=g)
    out = shape.conflict(a, b)
    mine, phase, size = (torch.fft.fft2(x.double()) for x in (out, a, b))
    assert torch.allclose(mine.abs(), size.abs(), atol=1e-4)
    kept = size.abs() > 0.1
    gap = (mine / mine.abs() - phase / phase.abs()).abs()
    assert gap[kept].max() < 1e-3 and torch.allclose(shape.conflict(a, a), a, atol=1e-4)


def test_images_in_the_cue_conflict_format(made, tmp_path):
    case, folder = made(Phases()), tmp_path / "cues" / "cat"
    folder.mkdir(parents=True)
    for i, pixels in enumerate(sorted((tmp_path / "b" / "cat").iterdir())[:6]):
        Image.open(pixels).save(folder / f"cat{i}-truck{i + 3}.png")
    Image.open(pixels).save(folder / "cat1-cat2.png")
    Image.open(pixels).save(folder / "dog1-cat2.png")
    result = shape.protocol(case, data=str(folder.parent), head="knn")[0]
    assert result.value == 1 and result.n == 6  # whole cats
    assert "2 of 8 images" in result.notes[-1]
    assert result.protocol_id != shape.protocol(case, head="knn")[0].protocol_id
    with pytest.raises(TapetumError, match=r"has no image of a name such as cat1-truck3\.png"):
        shape.protocol(case, data=str(tmp_path / "a"), head="knn")


@pytest.mark.parametrize(
    "path, want",
    [
        ("cat1-truck3.png", (0, 1)),
        ("x/y-z/truck12-cat.jpg", (1, 0)),
        ("t-shirt4-cat2.png", (2, 0)),
        ("Cat1-t-shirt.png", (0, 2)),
        ("cat1.png", None),
        ("dog1-cat2.png", None),
    ],
)
def test_names_tell_shape_and_texture(path, want):
    assert shape.cues(path, ["cat", "truck", "t-shirt"]) == want


def test_partners_are_of_another_class_and_all_may_be_taken():
    y = torch.tensor([2, 0, 0, 1, 2, 0, 0])
    partners = torch.stack([of_another_class(y, seed) for seed in range(300)])
    assert (y[partners] != y).all()
    assert [len(partners[:, i].unique()) for i in range(7)] == [5, 3, 3, 6, 5, 3, 3]
    rows = torch.stack([of_another_row(4, seed) for seed in range(200)])
    assert (rows != torch.arange(4)).all() and all(len(column.unique()) == 3 for column in rows.T)
    assert torch.stack([of_another_row(4, s, among=3) for s in range(200)]).unique().tolist() == [0, 1, 2]


def test_twins_share_their_partner(made, tmp_path):
    source = open_data(np.stack([np.full((4, 4, 3), v, np.uint8) for v in (1, 2, 1, 3, 2)]), "none")
    assert first_of_twins(source).tolist() == [0, 1, 0, 3, 1]


# ---- style ----


def test_colours_fool_who_sees_colours_and_not_who_sees_phases(made):
    by_colour = style.protocol(made(Colours()), head="knn")
    by_place = style.protocol(made(Phases()), head="knn")
    assert by_colour[0].details["clean accuracy"] > 0.95 and by_place[0].details["clean accuracy"] > 0.95
    assert by_colour[0].value < 0.75 and by_place[0].value > 0.95
    assert by_place[0].details["answers that stay"] > 0.95
    assert [r.name for r in by_colour] == ["accuracy, other colours", "accuracy, other stains"]
    none = style.protocol(made(Colours()), head="knn", styles=("stains",), stain=0.0)
    assert none[0].value == none[0].details["clean accuracy"]


def test_colours_of_other_images(made, tmp_path):
    folder = tmp_path / "paintings"
    folder.mkdir()
    g = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(
            (g.normal(size=(SIDE, SIDE, 3)) * 15 + [200, 90, 20 + i]).clip(0, 255).astype("u1")
        ).save(folder / f"{i}.png")
    case = made(Colours())
    result = style.protocol(case, data=str(folder), styles=("colours",), head="knn")[0]
    assert result.value == 0.5  # all become equally red
    assert result.protocol_id != style.protocol(case, styles=("colours",), head="knn")[0].protocol_id
