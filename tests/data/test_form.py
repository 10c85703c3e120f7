"""Channels, levels and fit: chosen once, the same in training and encoding."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tapetum import encoders
from tapetum.base.errors import TapetumError
from tapetum.data import Damaged, open_data
from tapetum.data.canvas import Canvas, squash
from tapetum.data.decode import decode
from tapetum.data.form import Form


def encoded(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def test_grey_is_luma_and_colour_fills_from_grey(picture):
    pixels = picture(0)
    luma = np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels)), form=Form(1)), luma)
    np.testing.assert_array_equal(Form(1).of_array(pixels), luma)
    np.testing.assert_array_equal(Form(3).of_array(luma), np.repeat(luma, 3, 2))


def test_alpha_is_kept_when_four_channels_are_asked_for():
    image = Image.new("RGBA", (2, 2), (10, 20, 30, 40))
    assert decode(encoded(image), form=Form(4))[0, 0].tolist() == [10, 20, 30, 40]
    with pytest.raises(Damaged, match="has 3 channels, not 4"):
        decode(encoded(image.convert("RGB")), form=Form(4))


@pytest.mark.parametrize("as_file", [True, False])
def test_levels_stretch_deep_images(as_file):
    deep = np.array([[0, 100, 1100, 2100, 4095]], dtype=np.uint16)
    form = Form(1, (100, 2100))
    found = decode(encoded(Image.fromarray(deep)), form=form) if as_file else form.of_array(deep)
    assert found[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    plain = decode(encoded(Image.fromarray(deep))) if as_file else Form().of_array(deep)
    assert plain[0, :, 0].tolist() == [0, 0, 4, 8, 16]


def test_forms_that_cannot_be_get_a_sentence():
    with pytest.raises(TapetumError, match="at least 1"):
        Form(0)
    with pytest.raises(TapetumError, match="black is below white"):
        Form(3, (5.0, 5.0))
    with pytest.raises(Damaged, match="--channels 7 keeps them"):
        Form().of_array(np.zeros((4, 4, 7), np.uint8))


@pytest.mark.parametrize("first", [True, False])
def test_arrays_of_many_channels(first):
    array = np.random.default_rng(0).integers(0, 256, (5, 12, 10, 7), dtype=np.uint8)
    source = open_data(array.transpose(0, 3, 1, 2) if first else array)
    assert source.store.channels == 7 and source.size(0) == (12, 10)
    np.testing.assert_array_equal(source.formed(Form(7)).read(2), array[2])
    assert len(source.fingerprint()) == 32
    with pytest.raises(Damaged, match="has 7 channels, not 3"):
        source.read(0)
    pixels, _ = Canvas(source.formed(Form(7)), 8, workers=1).fetch(torch.tensor([3]))
    alone = Image.fromarray(array[3, :, :, 4]).resize((8, 8), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(pixels[0, 4].numpy(), np.asarray(alone), atol=1)


def test_fit_says_what_the_canvas_holds(write):
    root = write({})
    root.mkdir()
    Image.new("RGB", (40, 20), "white").save(root / "a.png")
    source = open_data(root)
    whole, size = squash(source, 0, 20)
    assert size == (20, 40) and whole.min() == 255
    whole, size = squash(source, 0, 20, "squash")
    assert size == (20, 20) and whole.min() == 255
    padded, size = squash(source, 0, 20, "pad")
    assert size == (40, 40) and padded[:, 8:12].min() == 255 and padded[:, :4].max() == 0


@pytest.mark.parametrize(("channels", "levels"), [(1, None), (5, None), (1, (0.0, 4095.0))])
def test_training_and_encoding_see_the_same_numbers(channels, levels, tmp_path):
    import tapetum

    top = 256 if levels is None else 4096
    kind = np.uint8 if levels is None else np.uint16
    array = np.random.default_rng(0).integers(0, top, (16, 32, 32, channels)).astype(kind)
    out = tmp_path / "run"
    small = {"image_size": 32, "batch_size": 8, "steps": 2, "precision": "fp32", "workers": 1, "seed": 0}
    tapetum.pretrain(
        array, out=str(out), method="mae", encoder="vit_mini", encoder_settings={"depth": 1},
        method_settings={"width": 32, "depth": 1}, channels=channels, levels=levels, **small,
    )  # fmt: skip
    encoder = encoders.load(str(out))
    assert encoder.spec.form == Form(channels, levels)
    canvas = Canvas(open_data(array).formed(encoder.spec.form), 32, workers=1)
    with torch.no_grad():
        direct = encoder(canvas.fetch(torch.arange(16))[0].float() / 255)
    np.testing.assert_allclose(encoder.encode(array), direct.numpy(), atol=1e-5)
