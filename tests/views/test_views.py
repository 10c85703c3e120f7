"""Views: reproducible, placed where they say, and equal to PIL's or a slow writing of the operation."""

import colorsys
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tapetum import views as V
from tapetum.base.errors import TapetumError
from tapetum.views import engine, fast, nest
from tapetum.views.colour import turn_hue
from tapetum.views.sample import box as sampled


def canvases(n=6, side=32):
    return torch.randint(
        0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def drawn(view, index, epoch=0, images=None, size=None, image_size=32):
    pixels = canvases()[index % 6] if images is None else images
    size = torch.full((len(index), 2), 32) if size is None else size
    return V.draw(view, pixels, size, V.Draw(7, epoch, 0, index), image_size)


@pytest.mark.parametrize("view", [V.simclr(), V.byol(1.0, 0.2), V.mae(), V.Shift() + V.Flip()], ids=str)
def test_a_view_depends_on_nothing_but_seed_epoch_and_image(view):
    tree = {"a": [view, view]}
    index = torch.arange(6)
    (whole, _), (again, _) = drawn(tree, index), drawn(tree, index)
    assert torch.equal(whole["a"][0], again["a"][0])
    part, _ = drawn(tree, torch.tensor([4, 2]))
    for k in (0, 1):
        assert torch.equal(part["a"][k], whole["a"][k][[4, 2]])
    other, _ = drawn(tree, index, epoch=1)
    assert not torch.equal(other["a"][0], whole["a"][0])
    assert not torch.equal(whole["a"][0], whole["a"][1])


def test_pixels_stay_in_range_and_sizes_are_shares():
    out, _ = drawn({"large": V.simclr(), "small": V.simclr(0.5)}, torch.arange(6))
    assert out["large"].shape == (6, 3, 32, 32) and out["small"].shape == (6, 3, 16, 16)
    assert out["large"].min() >= 0 and out["large"].max() <= 1
    assert V.Crop(size=20).size == 20 and nest.largest(V.simclr(20), 32) == 20


def test_crop_follows_its_ranges():
    u = torch.rand(20_000, 22, generator=torch.Generator().manual_seed(0))
    size = torch.tensor([[300, 400]]).expand(len(u), 2)
    box = V.Crop(scale=(0.2, 0.5), ratio=(0.75, 4 / 3)).draw(u, size, 64)
    w, h, x, y = box["width"], box["height"], box["left"], box["top"]
    area, aspect = w * h, w * 400 / (h * 300)
    assert area.min() > 0.2 - 1e-5 and area.max() < 0.5 + 1e-5
    assert aspect.min() > 0.75 - 1e-5 and aspect.max() < 4 / 3 + 1e-5
    assert (x >= 0).all() and (x + w <= 1 + 1e-6).all() and (y >= 0).all() and (y + h <= 1 + 1e-6).all()
    # uniform area, log-uniform aspect, uniform place: Kolmogorov-Smirnov at about 1 in 10,000
    for values in ((area - 0.2) / 0.3, (aspect.log() - math.log(0.75)) / (2 * math.log(4 / 3)), x / (1 - w)):
        ordered = values.sort()[0]
        gap = (ordered - torch.linspace(0, 1, len(ordered))).abs().max()
        assert gap < 2.2 / math.sqrt(len(ordered))


def test_a_crop_that_never_fits_becomes_a_centred_one():
    size = torch.tensor([[100, 1000]])
    box = V.Crop(scale=(0.9, 1.0)).draw(torch.rand(1, 22), size, 64)
    assert box["height"] == 1 and math.isclose(float(box["width"]) * 1000, 400 / 3, rel_tol=1e-4)
    assert math.isclose(float(box["left"]), (1 - float(box["width"])) / 2, rel_tol=1e-4)


@pytest.mark.parametrize(("box", "out"), [((4, 6, 24, 30), 48), ((0, 0, 32, 32), 8), ((3, 5, 29, 31), 13)])
def test_sampling_is_pils_antialiased_bilinear_resize_of_the_cut_out_box(box, out):
    image = canvases(1)
    left, top, right, bottom = box
    geometry = torch.tensor(
        [[[(right - left) / 32, 0, left / 32], [0, (bottom - top) / 32, top / 32], [0, 0, 1]]]
    )
    ours = sampled(image, geometry, out)[0].permute(1, 2, 0).numpy() * 255
    cut = Image.fromarray(image[0].permute(1, 2, 0).numpy()).crop(box)
    pil = np.asarray(cut.resize((out, out), Image.Resampling.BILINEAR), dtype=float)
    assert np.abs(ours - pil).max() < 1.1  # PIL rounds to whole levels twice


# ---- compiled kernels and batched operations ----

SIZES = torch.tensor([[32, 32], [20, 50], [300, 400], [64, 64], [32, 48], [90, 33]])


@pytest.mark.skipif(fast.kernels() is None, reason="numba is not installed")
@pytest.mark.parametrize("size", [9, 32, 40])
@pytest.mark.parametrize(
    "view",
    [
        V.simclr(blur=1.0),
        V.byol(1.0, 1.0),
        V.byol(0.5, 0.5),
        V.mae(),
        V.Shift(0.3) + V.Flip(),
        V.Resize() + V.Jitter(0.0, 0.5, 0.0, 0.5, p=1.0),
        V.View((V.Blur(1.0, (14.0, 30.0)),)),
    ],
    ids=str,
)
def test_kernels_equal_batched_operations(view, size, monkeypatch):
    index = torch.arange(48)
    images, sizes = canvases(48), SIZES.repeat(8, 1)
    compiled, at = drawn(view, index, images=images, size=sizes, image_size=size)
    monkeypatch.setattr(fast, "can", lambda view, pixels: False)
    batched, there = drawn(view, index, images=images, size=sizes, image_size=size)
    assert torch.equal(at, there)
    gap = (compiled - batched).abs()
    assert (gap < 2e-4).float().mean() > 0.9995  # hue and solarising jump where two channels nearly tie
    assert compiled.is_contiguous(memory_format=torch.channels_last)


FRESH = """
import torch
from tapetum import views
pixels = (torch.arange(8 * 3 * 33 * 33) * 7919 % 256).to(torch.uint8).view(8, 3, 33, 33)
rng, size = views.Draw(0, 0, 0, torch.arange(8)), torch.full((8, 2), 33)
x, _ = views.draw(views.byol(1.0, 0.5), pixels, size, rng, 33)
print(x.view(torch.int32).long().mul(torch.arange(x.numel()).view(x.shape) % 9973 + 1).sum().item())
"""


@pytest.mark.skipif(fast.kernels() is None, reason="numba is not installed")
def test_code_just_compiled_gives_the_bits_of_code_from_the_cache(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-c", FRESH]
    said = [subprocess.check_output(run, env=environment, text=True) for _ in range(2)]
    assert any(tmp_path.rglob("*.nbi")) and said[0] == said[1]


@pytest.mark.skipif(fast.kernels() is None, reason="numba is not installed")
def test_a_full_disk_ends_nothing(tmp_path):
    """Code that cannot be kept is compiled all the same."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    run = [sys.executable, "-B", "-c", full + FRESH]
    assert subprocess.check_output(run, env=environment, text=True).strip()
    assert not any(tmp_path.rglob("*.nbc"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("view", [V.simclr(), V.byol(0.5, 0.5), V.mae(), V.shifted()], ids=str)
def test_a_gpu_gives_the_same_views(view):
    index, size = torch.arange(48), SIZES.repeat(8, 1)
    rng = V.Draw(7, 0, 0, index)
    here, at = V.draw(view, canvases(48), size, rng, 40)
    there, also = V.draw(view, canvases(48).cuda(), size, rng, 40)
    assert torch.equal(at, also.cpu())
    assert ((here - there.cpu()).abs() <= 1 / 255).float().mean() > 0.999


@pytest.mark.skipif(fast.kernels() is None, reason="numba is not installed")
def test_what_has_no_kernel_is_computed_all_the_same():
    class Odd(V.Gray):
        def paint(self, x, given):
            return 1 - x

    x, _ = drawn(V.View((Odd(),)), torch.arange(6))
    torch.testing.assert_close(x, 1 - canvases().float() / 255)
    assert not fast.can(V.View((Odd(),)), canvases()) and fast.can(V.simclr(), canvases())
    assert not fast.can(V.simclr(), canvases()[:, :1]) and fast.can(V.mae(), canvases()[:, :1])


def test_flip_mirrors_pixels_and_geometry():
    out, geometry = drawn(V.View((V.Flip(1.0),)), torch.arange(6))
    torch.testing.assert_close(out, canvases().float().flip(-1) / 255, atol=1e-6, rtol=0)
    assert torch.equal(geometry[0], torch.tensor([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]]))


def test_shift_moves_whole_pixels_and_mirrors_the_border():
    out, geometry = drawn(V.View((V.Shift(0.25),)), torch.arange(6))
    for image, moved, box in zip(canvases(), out, geometry):
        dx, dy = (round(float(box[k, 2]) * 32) for k in (0, 1))
        padded = np.pad(image.numpy(), ((0, 0), (8, 8), (8, 8)), mode="reflect")
        want = padded[:, 8 + dy : 40 + dy, 8 + dx : 40 + dx] / 255
        np.testing.assert_allclose(moved.numpy(), want, atol=1e-5)


def painted(step, x, u):
    return step.paint(x, step.draw(u, torch.full((len(x), 2), 32), 32))


def test_two_steps_of_a_kind_draw_their_own_numbers():
    rng = V.Draw(0, 0, 0, torch.arange(500))
    flips = engine.parameters(V.Flip() + V.Gray(0.5) + V.Flip(), rng, torch.full((500, 2), 32), 32)
    first, second = flips[0][1]["on"], flips[2][1]["on"]
    assert 150 < int((first != second).sum()) < 350


def test_colours_equal_a_slow_writing_pixel_by_pixel():
    x = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    u = torch.rand(3, 22, generator=torch.Generator().manual_seed(3))
    u[:, 0] = torch.tensor([0.1, 0.1, 0.9])  # the last one is left alone
    ours = painted(V.Jitter(0.8, 0.6, 0.4, 0.2, p=0.5), x, u)
    assert torch.equal(ours[2], x[2])
    luma = lambda p: 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2]  # noqa: E731
    clip = lambda v: min(max(v, 0.0), 1.0)  # noqa: E731
    for i in range(2):
        b, c, s = (1 - k + 2 * k * float(u[i, j]) for j, k in ((1, 0.8), (2, 0.6), (3, 0.4)))
        turn = -0.2 + 0.4 * float(u[i, 4])
        image = [[clip(float(v) * b) for v in x[i, :, r, q]] for r in range(4) for q in range(4)]
        mean = sum(map(luma, image)) / 16
        image = [[clip(v * c + mean * (1 - c)) for v in p] for p in image]
        image = [[clip(v * s + luma(p) * (1 - s)) for v in p] for p in image]
        for at, pixel in enumerate(image):
            hue, sat, val = colorsys.rgb_to_hsv(*pixel)
            want = colorsys.hsv_to_rgb((hue + turn) % 1, sat, val)
            np.testing.assert_allclose(ours[i, :, at // 4, at % 4].numpy(), want, atol=2e-5)


def test_a_full_turn_of_the_hue_changes_nothing():
    x = torch.rand(2, 3, 5, 5)
    torch.testing.assert_close(turn_hue(x, torch.tensor([1.0, 0.0])), x, atol=1e-5, rtol=0)


def test_gray_solarise_and_blur():
    x, u = torch.rand(2, 3, 16, 16), torch.rand(2, 22)
    u[:, 0] = 0
    gray = painted(V.Gray(1.0), x, u)
    torch.testing.assert_close(gray[:, 0], 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])
    assert torch.equal(gray[:, 0], gray[:, 2])
    torch.testing.assert_close(painted(V.Solarise(1.0, 0.3), x, u), torch.where(x >= 0.3, 1 - x, x))
    blurred = painted(V.Blur(1.0, (14.0, 14.0)), x, u)  # one pixel wide at this size
    taps = np.exp(-0.5 * np.arange(-3, 4) ** 2.0)
    taps /= taps.sum()
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode="reflect")
    rows = sum(taps[k] * padded[:, :, k : k + 16] for k in range(7))
    want = sum(taps[k] * rows[:, :, :, k : k + 16] for k in range(7))
    np.testing.assert_allclose(blurred.numpy(), want, atol=1e-5)


def test_probabilities_are_kept():
    index = torch.arange(4000)
    images = torch.full((4000, 3, 2, 2), 200, dtype=torch.uint8)
    out, _ = drawn(
        V.View((V.Solarise(0.2),)), index, images=images, size=torch.full((4000, 2), 2), image_size=2
    )
    assert abs(float((out[:, 0, 0, 0] < 0.5).float().mean()) - 0.2) < 0.025


def test_settings_of_views_are_found_changed_and_refused():
    tree = {"large": 2 * [V.simclr()], "small": 2 * [V.simclr(0.4)]}
    assert nest.schema(tree)["crop.size"] == [1.0, 0.4]
    changed = nest.configured(tree, {"flip": 0.0, "crop.scale": (0.3, 0.9), "small.crop.scale": (0.1, 0.2)})
    scales = [s.scale for view in nest.leaves(changed) for s in view.steps if isinstance(s, V.Crop)]
    assert scales == 2 * [(0.3, 0.9)] + 2 * [(0.1, 0.2)] or scales == 4 * [(0.3, 0.9)]
    assert scales[2] == (0.1, 0.2)
    with pytest.raises(TapetumError, match=r"did you mean 'crop.scale'"):
        nest.configured(tree, {"crop.scael": (0.1, 0.2)})
    with pytest.raises(TapetumError, match="probability"):
        nest.configured(tree, {"flip": 2.0})


def test_sizes_are_rounded_to_whole_patches():
    tree = nest.whole_patches({"large": V.simclr(), "small": [V.simclr(0.43), V.Flip()]}, 32, 8)
    sizes = [s.size for view in nest.leaves(tree) for s in view.steps if isinstance(s, V.Crop)]
    assert sizes == [32, 16]
    assert nest.whole_patches(V.crop_only(0.01), 32, 8).steps[0].size == 8


def test_random_numbers_of_a_batch_are_shared_and_of_images_are_their_own():
    rng = V.Draw(0, 0, 5, torch.arange(3))
    batch = V.Batch({"label": torch.zeros(3)}, rng)
    assert batch.random("mask", (4,)).shape == (3, 4) and len(batch) == 3
    part = V.Batch({}, V.Draw(0, 0, 5, torch.tensor([2])))
    assert torch.equal(batch.random("mask", (4,))[2:], part.random("mask", (4,)))
    assert torch.equal(batch.random("cut", per="batch"), part.random("cut", per="batch"))
    assert not torch.equal(batch.random("mask", (4,)), batch.random("other", (4,)))
    with pytest.raises(TapetumError, match="label"):
        batch["lable"]
