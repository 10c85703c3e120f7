"""Images as people have them reach the network as the same pixels, whatever their form."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tapetum.base.errors import TapetumError
from tapetum.encoders import Encoder
from tapetum.encoders.prepare import prepare
from tapetum.encoders.spec import Spec

ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@pytest.fixture
def flat() -> Encoder:
    """Features are the pixels themselves."""
    return Encoder.wrap(nn.Flatten(), 8, mean=ZERO, std=ONE)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def test_every_form_gives_the_same_row(flat, pixels, tmp_path):
    wanted = torch.from_numpy(pixels).movedim(-1, 1).flatten(1).float().div(255).numpy()
    files = []
    for i, image in enumerate(pixels):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(files[-1])
    forms = {
        "arrays": pixels,
        "list of arrays": list(pixels),
        "channels first": pixels.transpose(0, 3, 1, 2),
        "tensor": torch.from_numpy(pixels),
        "floats": pixels.astype(np.float32) / 255,
        "PIL": [Image.fromarray(image) for image in pixels],
        "paths": files,
        "strings": [str(file) for file in files],
        "a generator": (image for image in pixels),
        "mixed": [
            files[0],
            pixels[1],
            torch.from_numpy(pixels[2]),
            Image.fromarray(pixels[3]),
            str(files[4]),
        ],
    }
    for name, form in forms.items():
        got = flat.encode(form, batch_size=2)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, atol=1e-6, err_msg=name)
    for one in (pixels[0], files[0], torch.from_numpy(pixels[0]).movedim(-1, 0), Image.fromarray(pixels[0])):
        np.testing.assert_allclose(flat.encode(one), wanted[0], atol=1e-6)
    assert flat.encode([]).shape == (0, 192)


def test_floats_of_the_right_size_are_not_rounded(flat):
    x = torch.rand(3, 3, 8, 8)
    np.testing.assert_array_equal(flat.encode(x), x.flatten(1).numpy())


def test_grey_images(flat):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    wanted = np.tile(grey.reshape(-1).astype(np.float32) / 255, 3)
    for form in (grey, grey[..., None], grey[None], Image.fromarray(grey)):
        np.testing.assert_allclose(flat.encode(form), wanted, atol=1e-6)
    assert flat.encode(np.stack([grey] * 4)).shape == (4, 192)


def test_a_turned_photograph_is_turned_however_it_comes(flat, tmp_path):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(
        flat.encode(tmp_path / "turned.png"), flat.encode(Image.open(tmp_path / "turned.png"))
    )
    assert not np.array_equal(flat.encode(tmp_path / "turned.png"), flat.encode(image))


def test_images_of_many_sizes_in_one_call(flat):
    sizes = [(8, 8), (30, 20), (20, 30), (3, 50), (1, 1)]
    assert flat.encode([np.full((*size, 3), 51, np.uint8) for size in sizes]) == pytest.approx(0.2, abs=1e-6)


def test_fits():
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :10] = 255  # a white left quarter
    crop, pad, squash = (
        prepare(image, Spec("", "", image_size=20, fit=fit)) for fit in ("crop", "pad", "squash")
    )
    assert crop.shape == pad.shape == squash.shape == (3, 20, 20)
    assert crop.max() == 0, "the middle is black"
    assert (pad[:, :5].max(), pad[:, 15:].max()) == (0, 0) and pad[:, 5:15, :4].min() == 255
    assert squash[:, :, :4].min() == 255 and squash[:, :, 6:].max() == 0
    part = prepare(image, Spec("", "", image_size=20, fit="crop", crop_pct=0.5))
    np.testing.assert_array_equal(part, crop)
    with pytest.raises(TapetumError, match="unknown fit 'corp'; did you mean 'crop'"):
        Spec("", "", fit="corp")


def test_what_cannot_be_read(flat, pixels, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    images = [pixels[0], tmp_path / "broken.png", pixels[1], tmp_path / "absent.png"]
    with pytest.raises(TapetumError, match=r"image 1 \(.*broken\.png\) cannot be read"):
        flat.encode(images)
    rows = flat.encode(images, errors="nan")
    assert np.isnan(rows).all(1).tolist() == [False, True, False, True]
    np.testing.assert_array_equal(rows[[0, 2]], flat.encode(pixels[:2]))
    assert np.isnan(flat.encode([tmp_path / "absent.png"], errors="nan")).all()


@pytest.mark.parametrize(
    "image, said",
    [
        (np.zeros((8, 8, 3), np.int64), "int64"),
        (np.full((8, 8, 3), 2.0), "from 2.0 to 2.0"),
        (np.full((8, 8, 3), np.nan), "from nan"),
        (np.zeros((8, 8, 5), np.uint8), "1 or 3 channels"),
        (np.zeros((0, 8, 3), np.uint8), r"this has \[0, 8, 3\]"),
    ],
)
def test_what_is_no_image(flat, image, said):
    with pytest.raises(TapetumError, match=said):
        flat.encode([image])


def test_a_batch_of_floats_beyond_the_range_is_refused(flat):
    with pytest.raises(TapetumError, match=r"image 0 .*0, 1\]"):
        flat.encode(torch.full((2, 3, 8, 8), 7.0))


def test_wrong_words(flat, pixels):
    with pytest.raises(TapetumError, match="unknown output 'token'; did you mean 'tokens'"):
        flat.encode(pixels, out="token")
    with pytest.raises(TapetumError, match="'ignore'"):
        flat.encode(pixels, errors="ignore")


def test_encoding_leaves_the_encoder_as_it_was(pixels):
    encoder = Encoder.wrap(nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten()), 8).train()
    before = {name: t.clone() for name, t in encoder.state_dict().items()}
    one, two = encoder.encode(pixels), encoder.encode(pixels, batch_size=1)
    np.testing.assert_allclose(one, two, atol=1e-6)
    assert encoder.training
    assert all(torch.equal(before[name], t) for name, t in encoder.state_dict().items())


def test_a_png_in_memory_is_a_pil_image_like_any_other(flat, pixels):
    memory = io.BytesIO()
    Image.fromarray(pixels[0]).save(memory, "png")
    np.testing.assert_allclose(flat.encode(Image.open(memory)), flat.encode(pixels[0]), atol=1e-6)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_a_squashed_image_is_prepared_in_its_true_proportions(fit):
    """Nearly as the image itself, for it went through one more resizing."""
    y, x = np.mgrid[0:120, 0:200]
    image = np.stack([x * 255 // 199, y * 255 // 119, (x + y) % 64 * 4], 2).astype(np.uint8)
    squashed = np.asarray(Image.fromarray(image).resize((100, 100), Image.Resampling.BILINEAR))
    spec = Spec("x", "x", image_size=48, fit=fit, crop_pct=0.9)
    whole, through = prepare(image, spec).astype(int), prepare(squashed, spec, (120, 200)).astype(int)
    assert np.abs(whole - through)[:2].max() <= 6 and np.abs(whole - through).mean() < 3
    if fit != "squash":
        assert np.abs(whole - prepare(squashed, spec).astype(int)).mean() > 6
    same = replace(spec, image_size=100, crop_pct=1.0)
    as_it_is = np.array_equal(prepare(squashed, same, (120, 200)), squashed.transpose(2, 0, 1))
    assert as_it_is == (fit == "squash"), "only the squashed form is ready"
