"""Every kind of image file comes out right, and every broken one as Damaged."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tapetum.data import jpeg
from tapetum.data.decode import Damaged, decode, decode_sized, header_size
from tapetum.data.form import Form


def encoded(image: Image.Image, kind: str = "PNG", **how) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def test_rgb_passes_bit_for_bit(picture):
    pixels = picture(0)
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), kind)), pixels)


def test_grey_and_one_bit_fill_three_channels():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(grey))), np.stack([grey] * 3, 2))
    bits = decode(encoded(Image.fromarray(grey > 100)))
    np.testing.assert_array_equal(bits[..., 0], np.where(grey > 100, 255, 0))


def test_transparency_lies_on_white():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = (255, 0, 128)
    out = decode(encoded(Image.fromarray(pixels, "RGBA")))
    assert out[0, 0].tolist() == [0, 0, 0] and out[0, 1].tolist() == [255, 255, 255]
    assert out[0, 2].tolist() == [127, 127, 127]
    grey = decode(encoded(Image.merge("LA", [Image.new("L", (1, 1), 9), Image.new("L", (1, 1), 0)])))
    assert grey.tolist() == [[[255, 255, 255]]]


def test_palettes_with_and_without_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decode(encoded(image))[0].tolist() == [[255, 0, 0], [0, 0, 255]]
    assert decode(encoded(image, transparency=1))[0].tolist() == [[255, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_by_their_range(kind):
    deep = np.array([[0, 257, 25700, 65535]], np.uint16)
    assert decode(encoded(Image.fromarray(deep), kind))[0, :, 0].tolist() == [0, 1, 100, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.0, 0.2, 1.0], [0, 51, 255]), ([0.0, 51.0, 255.0], [0, 51, 255]), ([-1.0, 0.0, 1.0], [0, 128, 255])],
)
def test_float_images_are_scaled_by_a_range_that_holds_them(values, expected):
    image = Image.fromarray(np.array([values], np.float32))
    assert decode(encoded(image, "TIFF"))[0, :, 0].tolist() == expected


def test_cmyk_is_turned_into_light():
    image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    assert decode(encoded(image, "TIFF"))[0, 0].tolist() == [255, 0, 0]
    red, green, blue = decode(encoded(image, "JPEG", quality=95))[0, 0].tolist()
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_turns_the_image_upright(turn, kind):
    stored = Image.new("L", (32, 16))
    stored.paste(255, (0, 0, 8, 8))  # white stands in the stored top left corner
    exif = Image.Exif()
    exif[0x0112] = turn
    content = encoded(stored.convert("RGB"), kind, exif=exif)
    pixels, size = decode_sized(content)
    assert pixels.shape[:2] == size == header_size(content) == ((16, 32) if turn < 5 else (32, 16))
    bottom, right = turn in (3, 4, 7, 8), turn in (2, 3, 6, 7)
    corner = pixels[-4 if bottom else 3, -4 if right else 3]
    assert corner.min() > 200 and pixels.mean() < 60


def test_jpeg_may_leave_out_detail_but_tells_the_true_size():
    content = encoded(Image.new("RGB", (800, 403)), "JPEG")
    pixels, size = decode_sized(content, at_least=50)
    assert size == (403, 800) and 50 <= pixels.shape[0] < 403
    assert decode(content).shape == (403, 800, 3)


def test_the_pixel_limit_is_read_from_the_header():
    huge = bytearray(encoded(Image.new("L", (10, 10))))
    huge[16:24] = (60_000).to_bytes(4, "big") * 2  # the header promises 3.6 billion pixels
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    with pytest.raises(Damaged, match="limit"):
        decode(bytes(huge))
    with pytest.raises(Damaged, match="10 x 10 is over the limit of 99 pixels"):
        decode(encoded(Image.new("L", (10, 10))), max_pixels=99)


def test_truncated_empty_and_foreign_files_are_damaged(png, tmp_path):
    whole = encoded(Image.effect_noise((64, 64), 50), "JPEG")
    for content, reason in [
        (b"", "empty"),
        (whole[: len(whole) // 2], "truncated"),
        (png(0)[:-30], "truncated|cannot be decoded"),
        (b"hello, world", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),
    ]:
        with pytest.raises(Damaged, match=reason):
            decode(content)
    with pytest.raises(Damaged, match="not there"):
        decode(tmp_path / "none.png")


def test_zero_sized_is_damaged():
    with pytest.raises(Damaged):
        decode(b"P6\n0 5\n255\n")


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "TGA"]), data=st.data())
def test_nothing_but_damaged_is_ever_raised(kind, data):
    content = bytearray(encoded(Image.linear_gradient("L").resize((16, 16)).convert("RGB"), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for broken in (bytes(content), bytes(content[:cut])):
        try:
            pixels = decode(broken, max_pixels=1_000_000)
            assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
        except Damaged as error:
            assert str(error)


# ---- libjpeg-turbo by itself, and Pillow ----


def without_turbo(content, *how, **more):
    """What Pillow alone makes of it: pixels and size, or the reason."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg, "simplejpeg", None)
        return outcome(content, *how, **more)


def outcome(content, *how, **more):
    try:
        return decode_sized(content, *how, **more)
    except Damaged as error:
        return str(error)


def photo(height=97, width=130):
    """Smooth, with edges, in colour."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([y * 2 % 256, x, (x // 9 + y // 7) % 2 * 200], 2).astype(np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("at_least", [0, 20, 33, 60])
@pytest.mark.parametrize(
    "how",
    [
        {"subsampling": 0},
        {"subsampling": 1, "quality": 60},
        {"subsampling": 2, "optimize": True},
        {"progressive": True},
        {"keep_rgb": True},
        {"restart_marker_rows": 1},
        {"mode": "L"},
        {"mode": "L", "progressive": True},
    ],
)
def test_both_decoders_give_the_same_pixels(how, at_least, channels):
    pytest.importorskip("simplejpeg")
    how = dict(how)
    content = encoded(photo().convert(how.pop("mode", "RGB")), "JPEG", **how)
    assert jpeg.decode(content, 10**6, at_least) is not None
    (one, size), (other, same) = (
        f(content, at_least=at_least, form=Form(channels)) for f in (outcome, without_turbo)
    )
    assert one.shape == other.shape and one.shape[2] == channels and size == same == (97, 130)
    assert np.abs(one.astype(int) - other).max() <= 1 and one.flags.writeable


def segment(content: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment at its beginning."""
    return content[:2] + bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body + content[2:]


def test_what_is_unusual_is_left_to_pillow():
    pytest.importorskip("simplejpeg")
    plain = encoded(photo(), "JPEG")
    exif = Image.Exif()
    exif[0x0112] = 6
    written = exif.tobytes()
    by_xmp = segment(
        plain, 0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6' tiff:Orientation=\"6\"/>"
    )
    unusual = {
        "four inks": encoded(photo().convert("CMYK"), "JPEG"),
        "turned by XMP": by_xmp,
        "EXIF in two parts": segment(segment(plain, 0xE1, written), 0xE1, written),
        "padding before a marker": plain[:2] + b"\xff\xff" + plain[2:],
        "over the limit": plain,
        "another kind": encoded(photo(), "PNG"),
    }
    for name, content in unusual.items():
        limit = 1000 if name == "over the limit" else 10**6
        assert jpeg.decode(content, limit) is None, name
        one, other = outcome(content, limit), without_turbo(content, limit)
        assert str(one) == str(other), name
    assert outcome(by_xmp)[0].shape == (130, 97, 3)
    turned = segment(plain, 0xE1, written)
    assert jpeg.decode(turned, 10**6)[2] == 6 and jpeg.decode(segment(by_xmp, 0xE1, written), 10**6)[2] == 6
    np.testing.assert_array_equal(outcome(turned)[0], without_turbo(turned)[0])


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("at_least", [0, 20])
def test_a_jpeg_that_was_cut_anywhere_is_refused_in_the_same_words(progressive, at_least):
    pytest.importorskip("simplejpeg")
    content = encoded(photo(), "JPEG", progressive=progressive)
    cut = [*range(0, len(content) - 2, 61), len(content) - 3]
    for at in cut:
        found = outcome(content[:at], at_least=at_least)
        assert isinstance(found, str) and found == without_turbo(content[:at], at_least=at_least), at
    assert sum(outcome(content[:at]) == "truncated" for at in cut) > len(cut) / 2


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_has_the_same_end_with_both_decoders(data):
    pytest.importorskip("simplejpeg")
    content = bytearray(encoded(photo(40, 50), "JPEG", progressive=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    one, other = outcome(bytes(content), 10**6), without_turbo(bytes(content), 10**6)
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
    else:
        assert one[1] == other[1] and np.abs(one[0].astype(int) - other[0]).max() <= 1
