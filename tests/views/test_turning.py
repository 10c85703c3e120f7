"""What turns, tilts and bends equals torchvision's, is sampled once, and does not alias."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from tapetum import views as V
from tapetum.views import engine
from tapetum.views.fields import gaussian_fields
from tapetum.views.sample import Bent, box, centres, warp
from view_tools import drawn, parameters, photos

LEVEL = 1 / 255
BILINEAR = InterpolationMode.BILINEAR


def same(count, **given):
    on = {"on": torch.ones(count, dtype=torch.bool)}
    return on | {name: torch.full((count,), float(value)) for name, value in given.items()}


def moved(step, images, **given):
    """Images through a step's transforms, with black outside."""
    return warp(images, step.place(same(len(images), **given)), images.shape[-1], "zero")


@pytest.mark.parametrize("degrees", [-135, -30, 7.5, 90, 200])
def test_rotate_is_torchvisions(degrees):
    images = photos()
    want = TF.rotate(images / 255, degrees, BILINEAR)
    assert (moved(V.Rotate(), images, degrees=degrees) - want).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("degrees", "x", "y", "scale", "shear_x", "shear_y"),
    [(0, 0, 0, 1, 0, 0), (20, 0.1, -0.2, 1.3, 0, 0), (-70, 0, 0, 1.5, 15, -8), (0, 0.3, 0, 1.2, -20, 10)],
)
def test_affine_is_torchvisions(degrees, x, y, scale, shear_x, shear_y):
    images = photos()
    ours = moved(
        V.Affine(), images, degrees=degrees, move_x=x, move_y=y, scale=scale, shear_x=shear_x, shear_y=shear_y
    )
    want = TF.affine(images / 255, -degrees, [x * 48, y * 48], scale, [shear_x, shear_y], BILINEAR)
    assert (ours - want).abs().max() < 1e-3


def test_an_affine_that_shrinks_is_antialiased_where_torchvisions_is_not():
    """On smooth images the difference is below a level; on the finest pattern torchvision's aliases."""
    given = {"degrees": 10, "move_x": 0, "move_y": 0, "scale": 0.5, "shear_x": 0, "shear_y": 0}
    images = photos(side=96)
    want = TF.affine(images / 255, -10, [0, 0], 0.5, [0, 0], BILINEAR)
    assert (moved(V.Affine(), images, **given) - want).abs().mean() < LEVEL
    pattern = ((torch.arange(96)[:, None] + torch.arange(96)) % 2 * 255).to(torch.uint8).expand(1, 1, 96, 96)
    ours, theirs = (
        x[..., 30:66, 30:66]
        for x in (
            moved(V.Affine(), pattern, **given),
            TF.affine(pattern / 255, -10, [0, 0], 0.5, [0, 0], BILINEAR),
        )
    )
    assert ours.std() < 0.08 and theirs.std() > 0.15


@pytest.mark.parametrize("inwards", [-0.2, 0.2])
def test_perspective_is_torchvisions(inwards):
    """Where it enlarges; where it shrinks by up to 1.6, ours is antialiased: 3 levels apart."""
    images = photos()
    u = torch.rand(6, 4, 2, generator=torch.Generator().manual_seed(1))
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    corners = square + inwards * u * (1 - 2 * square)
    ours = warp(
        images, V.Perspective().place({"on": torch.ones(6, dtype=torch.bool), "corners": corners}), 48, "zero"
    )
    for image, found, ends in zip(images, ours, corners):
        want = TF.perspective(image / 255, (square * 48).tolist(), (ends * 48).tolist(), BILINEAR)
        assert (found - want).abs().max() < 1e-3 if inwards < 0 else (found - want).abs().mean() < 3 * LEVEL


def test_quarter_turns_are_exact_and_their_number_is_the_label():
    images = photos(40, 17)
    x, _ = drawn(V.QuarterTurn() + V.Flip(0.0), images)
    index = torch.arange(40)
    steps = engine.parameters(V.View((V.QuarterTurn(),)), V.Draw(7, 0, 0, index), torch.full((40, 2), 17), 17)
    turns = steps[0][1]["turns"]
    assert set(turns.tolist()) == {0, 1, 2, 3}
    for image, found, turn in zip(images, x, turns):
        torch.testing.assert_close(found, torch.rot90(image / 255, int(turn), (1, 2)), atol=1e-5, rtol=0)


def test_fills():
    image = torch.full((1, 1, 8, 8), 200, dtype=torch.uint8)
    image[0, 0, :, 0], image[0, 0, :, 1] = 100, 120
    shift = torch.tensor([[[1.0, 0, -0.25], [0, 1, 0], [0, 0, 1]]])  # two pixels come from the left
    wanted = {"zero": [0, 0], "gray": [127.5, 127.5], "edge": [100, 100], "mirror": [200, 120]}
    for fill, values in wanted.items():
        row = warp(image, shift, 8, fill)[0, 0, 3] * 255
        torch.testing.assert_close(
            row, torch.tensor([*values, 100.0, 120, 200, 200, 200, 200]), atol=1e-3, rtol=0
        )


@pytest.mark.parametrize("fill", ["mirror", "edge", "zero", "gray"])
def test_pad_and_crop_is_numpys(fill):
    images = photos(5, 32)
    x, geometry = drawn(V.View((V.Shift(0.25, fill),)), images)
    mode = {"mirror": {"mode": "reflect"}, "edge": {"mode": "edge"}}.get(
        fill, {"mode": "constant", "constant_values": 0 if fill == "zero" else 127.5}
    )
    for image, found, box_ in zip(images, x, geometry):
        dx, dy = (round(float(box_[k, 2]) * 32) for k in (0, 1))
        padded = np.pad(image.numpy().astype(float), ((0, 0), (8, 8), (8, 8)), **mode) / 255
        np.testing.assert_allclose(found.numpy(), padded[:, 8 + dy : 40 + dy, 8 + dx : 40 + dx], atol=2e-5)


def test_resize_fits_as_it_says():
    photo = Image.fromarray(photos(1, 160)[0].permute(1, 2, 0).numpy()).crop((0, 0, 160, 96))
    canvas = np.array(photo.resize((160, 160), Image.Resampling.BILINEAR)).transpose(2, 0, 1)[None]
    canvas = torch.from_numpy(canvas)

    def view(**settings):
        x, _ = drawn(V.View((V.Resize(24, **settings),)), canvas, sizes=torch.tensor([[96, 160]]))
        return x[0]

    def pil(image):
        pixels = np.array(image.resize((24, 24), Image.Resampling.BILINEAR))
        return torch.from_numpy(pixels).permute(2, 0, 1) / 255

    assert (view() - pil(photo)).abs().mean() < LEVEL
    assert (view(fit="crop") - pil(photo.crop((32, 0, 128, 96)))).abs().mean() < LEVEL
    assert (view(fit="crop", share=0.5) - pil(photo.crop((56, 24, 104, 72)))).abs().mean() < LEVEL
    black = Image.new("RGB", (160, 160))
    black.paste(photo, (0, 32))
    padded, gray = view(fit="pad"), view(fit="pad", fill="gray")
    assert (padded - pil(black))[:, 7:17].abs().mean() < 2 * LEVEL  # of a canvas that was squashed first
    assert padded[:, :4].max() == 0 and (gray[:, :4] - 0.5).abs().max() < 1e-6


@pytest.mark.parametrize("shrink", [1, 1.5, 2, 3.3])
def test_the_general_sampler_equals_pils_resize_along_the_axes(shrink):
    images = photos(side=99)
    geometry = torch.eye(3).repeat(6, 1, 1)
    out = round(99 / shrink)
    assert (warp(images, geometry, out, "mirror") - box(images, geometry, out)).abs().mean() < LEVEL
    noise = torch.randint(
        0, 256, (6, 3, 99, 99), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    gap = (warp(noise, geometry, out, "mirror") - box(noise, geometry, out)).std()
    assert gap < 0.25 * box(noise, geometry, out).std()  # as smooth, though not the same taps


def test_geometry_is_composed_and_sampled_once():
    """Turning by 30 degrees and back is nothing; each sampling by itself would blur."""
    noise = torch.randint(
        0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    there, back = V.Rotate((30.0, 30.0)), V.Rotate((-30.0, -30.0))
    x, geometry = drawn(there + back, noise)
    torch.testing.assert_close(geometry, torch.eye(3).expand(2, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(x, noise / 255, atol=1e-3, rtol=0)


def test_steps_follow_each_other_as_images_do():
    images = photos()
    view = V.Flip(1.0) + V.Affine((30.0, 30.0), (0.1, 0.1), (0.0, 0.0), (1.0, 1.0), (0.0, 0.0), fill="zero")
    x, _ = drawn(view, images)
    want = TF.affine(TF.hflip(images / 255), -30, [4.8, 0], 1.0, [0.0, 0.0], BILINEAR)
    assert (x - want).abs().max() < 2e-3


def test_elastic_is_torchvisions_for_the_same_displacement():
    images = photos()
    x, geometry = drawn(V.View((V.Elastic((80.0, 80.0), (6.0, 6.0), 1.0, "zero"),)), images)
    assert isinstance(geometry, Bent) and geometry.field.abs().max() * 48 > 1
    for image, found, field in zip(images, x, geometry.field):
        want = TF.elastic_transform(image / 255, 2 * field.permute(1, 2, 0)[None], BILINEAR)
        assert (found - want).abs().max() < 2e-3


def test_elastic_noise_is_smoothed_and_as_strong_as_it_says():
    step = V.Elastic((30.0, 30.0), (8.0, 8.0), 1.0)
    field = (
        step.field(parameters(step, 40), centres(112))[..., 16:-16, 16:-16] * 224
    )  # away from mirrored edges
    sigma = 4.0  # at this size; even noise in [-1, 1] has variance 1 / 3, smoothing leaves 1 / (4 pi sigma^2)
    assert math.isclose(float(field.std()), 30 * (1 / 3 / (4 * math.pi * sigma**2)) ** 0.5, rel_tol=0.05)
    lag = (field[..., 4:] * field[..., :-4]).mean() / field.square().mean()
    assert math.isclose(float(lag), math.exp(-(4**2) / (4 * sigma**2)), abs_tol=0.05)


def test_random_fields_are_gaussian_of_unit_variance_with_the_spectrum_they_say():
    from scipy import stats

    key = torch.arange(3000) * 7919
    field = gaussian_fields(key, 2, 16, 3, 4.0)
    for y, x in ((0, 0), (7, 3), (15, 15)):
        assert stats.kstest(field[:, 0, y, x].numpy(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(field[:, 0, 4, 4], field[:, 1, 4, 4])[0, 1]) < 5 / 3000**0.5  # independent fields
    pairs = [(a, b) for a in range(7) for b in range(7) if a or b]
    power = {(a, b): (a * a + b * b) ** -2.0 for a, b in pairs}
    for gap in (1, 5, 12):  # the covariance of a stationary field is its spectrum's cosine transform
        want = sum(p * math.cos(math.pi * b * gap / 16) for (a, b), p in power.items()) / sum(power.values())
        found = float((field[:, 0, :, gap:] * field[:, 0, :, :-gap]).mean())
        assert math.isclose(found, want, abs_tol=0.06), gap


def test_a_field_that_only_moves_or_turns_moves_or_turns():
    at = centres(32)
    only = {"degrees": 0.0, "scale": 0.0, "shear": 0.0, "move": 0.0}
    step = V.FieldWarp(**only | {"move": 0.03}, p=1.0)
    given = parameters(step, 300)
    assert math.isclose(float(step.bend(given, at).std()), 0.03, rel_tol=0.1)
    step = V.FieldWarp(**only | {"degrees": 9.0}, p=1.0)
    there = at + step.bend(given, at) - 0.5  # turned about the middle: as far from it as before
    torch.testing.assert_close(
        there.norm(dim=1), (at - 0.5).norm(dim=0).expand(300, 32, 32), atol=1e-5, rtol=0
    )
    turn = torch.atan2(there[:, 1], there[:, 0]) - torch.atan2(at[1] - 0.5, at[0] - 0.5)
    turn = (turn + math.pi) % (2 * math.pi) - math.pi
    assert math.isclose(float(turn.std()) * 180 / math.pi, 9.0, rel_tol=0.1)


def test_field_colours_vary_over_the_image_and_global_ones_are_their_limit():
    images = torch.full((200, 3, 24, 24), 100, dtype=torch.uint8)
    step = V.FieldJitter(0.2, 0.0, 0.0, p=1.0)
    factor = step.paint(images / 255, parameters(step, 200)) / (100 / 255)
    assert math.isclose(float(factor.std()), 0.2, rel_tol=0.1) and factor.std((2, 3)).min() > 0.02
    nothing = V.FieldJitter(0.0, 0.0, 0.0, p=1.0)
    assert torch.equal(nothing.paint(images / 255, parameters(nothing, 200)), images / 255)
