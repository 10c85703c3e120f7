"""Colours, tones and filters equal torchvision's and PIL's, and what they have not equals a slow writing."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TF

from tapetum import views as V
from tapetum.base import random
from tapetum.base.errors import TapetumError
from view_tools import made, painted, parameters, photos

LEVEL = 1 / 255
EXACT = {"equalise", "5 bits", "1 bit", "solarise", "invert"}


def sigma(pixels, side=48):
    """A blur of so many pixels in a view of this side."""
    return pixels * 224 / side


CASES = {
    "darker": (V.Brightness(), {"factor": 0.4}, lambda x: TF.adjust_brightness(x, 0.4)),
    "brighter": (V.Brightness(), {"factor": 1.7}, lambda x: TF.adjust_brightness(x, 1.7)),
    "flatter": (V.Contrast(), {"factor": 0.3}, lambda x: TF.adjust_contrast(x, 0.3)),
    "harder": (V.Contrast(), {"factor": 1.9}, lambda x: TF.adjust_contrast(x, 1.9)),
    "paler": (V.Saturation(), {"factor": 0.2}, lambda x: TF.adjust_saturation(x, 0.2)),
    "gaudier": (V.Saturation(), {"factor": 1.8}, lambda x: TF.adjust_saturation(x, 1.8)),
    "hue": (V.Hue(), {"turns": 0.3}, lambda x: TF.adjust_hue(x, 0.3)),
    "hue back": (V.Hue(), {"turns": -0.13}, lambda x: TF.adjust_hue(x, -0.13)),
    "gray": (V.Gray(), {}, lambda x: TF.rgb_to_grayscale(x, 3)),
    "solarise": (V.Solarise(), {"threshold": 0.3}, lambda x: TF.solarize(x, 0.3 * 255)),
    "5 bits": (V.Posterise(), {"bits": 5}, lambda x: TF.posterize(x, 5)),
    "1 bit": (V.Posterise(), {"bits": 1}, lambda x: TF.posterize(x, 1)),
    "equalise": (V.Equalise(), {}, TF.equalize),
    "autocontrast": (V.AutoContrast(), {}, TF.autocontrast),
    "invert": (V.Invert(), {}, TF.invert),
    "gamma": (V.Gamma(), {"gamma": 0.6}, lambda x: TF.adjust_gamma(x, 0.6)),
    "gamma 2": (V.Gamma(), {"gamma": 2.2}, lambda x: TF.adjust_gamma(x, 2.2)),
    "sharper": (V.Sharpness(), {"factor": 1.9}, lambda x: TF.adjust_sharpness(x, 1.9)),
    "softer": (V.Sharpness(), {"factor": 0.0}, lambda x: TF.adjust_sharpness(x, 0.0)),
    "blur": (V.Blur(1.0, (5.0, 6.0)), {"sigma": sigma(1.2)}, lambda x: TF.gaussian_blur(x, 9, 1.2)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("channels", [1, 3])
def test_it_equals_torchvision(name, channels):
    step, given, theirs = CASES[name]
    if channels == 1 and name == "gray":
        return
    images = photos(4, 48, channels)
    images = (images * 0.6 + 40).to(torch.uint8)  # not the whole range,
    images[:, :, ::5] //= 2  # and with something sharp
    ours = painted(step, images, **given)
    for image, found in zip(images, ours):
        want = theirs(image).float() / 255
        gap = (found - want).abs()
        assert gap.mean() < LEVEL, f"{gap.mean() * 255} levels"
        assert (gap < 2.01 * LEVEL).float().mean() > 0.99
        assert gap.max() < 1e-6 or name not in EXACT
        done = (image.float() / 255 - want).abs().mean()
        assert done > 2 * gap.mean() or channels == 1  # it does something, and ours does that


def test_the_published_order_of_jitter_is_torchvisions_for_that_order():
    images = photos(4)
    ours = painted(V.Jitter(), images, brightness=1.3, contrast=0.6, saturation=1.5, hue=0.1)
    want = TF.adjust_contrast(TF.adjust_brightness(images / 255, 1.3), 0.6)
    want = TF.adjust_hue(TF.adjust_saturation(want, 1.5), 0.1)
    assert (ours - want).abs().max() < 1e-4
    # torchvision shuffles the four; in the opposite order the same factors differ by a few levels
    other = TF.adjust_saturation(TF.adjust_hue(images / 255, 0.1), 1.5)
    other = TF.adjust_brightness(TF.adjust_contrast(other, 0.6), 1.3)
    assert LEVEL < (ours - other).abs().mean() < 20 * LEVEL


@pytest.mark.parametrize("quality", [5, 30, 49, 50, 75, 95, 100])
@pytest.mark.parametrize(("side", "channels"), [(48, 3), (33, 3), (48, 1)])
def test_jpeg_loses_what_pils_files_lose(quality, side, channels):
    images = photos(6, side, channels)
    images[:, :, ::7] //= 2  # something sharp
    ours, gap, lost = painted(V.Jpeg(), images, quality=quality), 0.0, 0.0
    for image, found in zip(images, ours):
        pixels = image.permute(1, 2, 0).squeeze(2).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        want = torch.from_numpy(np.array(Image.open(file))).view(side, side, channels).permute(2, 0, 1) / 255
        gap, lost = gap + (found - want).abs().mean() / 6, lost + (image / 255 - want).abs().mean() / 6
    assert gap < LEVEL, f"{gap * 255} levels"
    assert gap < lost / 4 or quality > 90  # much nearer to PIL's than the image itself is


def test_noise_is_normal_and_of_each_image_and_pixel():
    from scipy import stats

    images = torch.full((4, 3, 64, 64), 128, dtype=torch.uint8)
    step = V.Noise((0.05, 0.05))
    given = parameters(step, 4)
    noise = (step.paint(images / 255, given) - 128 / 255) / 0.05
    for image in noise:
        assert stats.kstest(image.flatten().numpy(), "norm").pvalue > 1e-3
        assert abs(np.corrcoef(image[0].flatten(), image[1].flatten())[0, 1]) < 0.08
    assert abs(np.corrcoef(noise[0].flatten(), noise[1].flatten())[0, 1]) < 0.05


def test_randomised_quantisation_is_a_slow_writing_of_the_paper():
    images = photos(3, 16)
    step = V.Quantise(regions=5)
    given = parameters(step, 3)
    ours = step.paint(images / 255, given)
    u = random.more(given["key"], (3, 9))
    for i in range(3):
        for c in range(3):
            channel = (images[i, c] / 255).flatten()
            low, high = float(channel.min()), float(channel.max())
            cuts = sorted(low + (high - low) * float(v) for v in u[i, c, :4])
            ends = [low, *cuts, high]
            values = [a + (b - a) * float(v) for a, b, v in zip(ends, ends[1:], u[i, c, 4:])]
            for pixel, found in zip(channel.tolist(), ours[i, c].flatten().tolist()):
                region = sum(pixel >= cut for cut in cuts)
                assert math.isclose(found, values[region], abs_tol=1e-6)
                assert ends[region] - 1e-6 <= found <= ends[region + 1] + 1e-6
            assert len(ours[i, c].unique()) <= 5
    assert not torch.equal(ours[0, 0].unique(), ours[0, 1].unique())  # channels for themselves


def test_channels_are_shuffled_and_dropped_evenly():
    images = torch.tensor([50, 100, 200], dtype=torch.uint8).view(1, 3, 1, 1).expand(3000, 3, 2, 2)
    step = V.ChannelShuffle(1.0)
    order = (step.paint(images / 255, parameters(step, 3000))[:, :, 0, 0] * 255).round().long()
    assert torch.equal(order.sort(1)[0], torch.tensor([[50, 100, 200]]).expand(3000, 3))
    counts = order.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 6 and (counts - 500).abs().max() < 5 * 500**0.5
    step = V.ChannelDrop(2, 1.0)
    left = step.paint(images / 255, parameters(step, 3000))[:, :, 0, 0] > 0
    assert (left.sum(1) == 1).all() and (left.sum(0) - 1000).abs().max() < 5 * 1000**0.5


@pytest.mark.parametrize("kind", [V.Saturation, V.Hue, V.Gray])
def test_one_channel_has_no_colours_and_two_are_refused(kind):
    images = photos(2, 16, 1)
    step = made(kind)
    assert torch.equal(step.paint(images / 255, parameters(step, 2)), images / 255)
    with pytest.raises(TapetumError, match=r"needs images of 3 channels, or of 1, .* these have 2\."):
        step.paint(torch.rand(2, 2, 8, 8), parameters(step, 2))


def test_contrast_keeps_the_mean_of_any_number_of_channels():
    x = 0.3 + 0.4 * torch.rand(2, 5, 16, 16)
    y = V.Contrast().change(x, {"factor": torch.tensor([0.5, 0.2])})
    torch.testing.assert_close(y.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(y[0].std(), 0.5 * x[0].std(), atol=1e-5, rtol=0)
