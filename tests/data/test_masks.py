"""Masks and drawn objects become the class of every pixel, and follow their image into the encoder."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from tapetum.base.errors import TapetumError
from tapetum.data.masks import Masks
from tapetum.encoders.prepare import prepare, prepare_mask
from tapetum.encoders.spec import Spec


def write(path, classes: np.ndarray, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(classes)
    if mode == "P":
        image = image.copy()
        image.putpalette(list(range(255, -1, -1)) * 3)
    image.save(path)


@pytest.fixture
def classes():
    return np.random.default_rng(0).integers(0, 5, (6, 9)).astype(np.uint8)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_masks_values_are_the_classes(tmp_path, classes, mode):
    write(tmp_path / "masks" / "train2017" / "a.png", classes, mode)
    masks = Masks(tmp_path / "masks")
    for path in ("train2017/a.jpg", "a.jpg", "other/a.webp"):
        assert masks.has(path) and np.array_equal(masks.read(path, (6, 9)), classes)
    assert not masks.has("b.jpg")


def test_the_whole_path_counts_where_names_repeat(tmp_path, classes):
    write(tmp_path / "one" / "a.png", classes)
    write(tmp_path / "two" / "a.png", 4 - classes)
    masks = Masks(tmp_path)
    assert np.array_equal(masks.read("two/a.jpg", (6, 9)), 4 - classes) and not masks.has("a.jpg")


def test_a_zip_is_read_in_place(tmp_path, classes):
    write(tmp_path / "m" / "a.png", classes)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(tmp_path / "m" / "a.png", "deep/masks/a.png")
        archive.writestr("deep/other/b.txt", "0 0.5 0.5 1 1")
    assert np.array_equal(Masks(tmp_path / "set.zip" / "deep" / "masks").read("a.jpg", (6, 9)), classes)


def test_boxes_and_polygons_are_drawn_small_ones_on_top(tmp_path):
    (tmp_path / "a.txt").write_text(
        "2 0.35 0.3 0.3 0.2\n\n0 0.1 0.1 0.9 0.1 0.9 0.8 0.1 0.8\n"
        "1 0.5 0.5 1 1\n4 0.75 0.2 0.953 0.2 0.75 0.607\n"
    )
    found = Masks(tmp_path).read("a.jpg", (100, 200))
    y, x = (np.mgrid[:100, :200] + 0.5) / np.array([100, 200])[:, None, None]
    want = np.full((100, 200), 2)
    want[(x > 0.1) & (x < 0.9) & (y > 0.1) & (y < 0.8)] = 1
    want[(x > 0.75) & (y > 0.2) & ((x - 0.75) / 0.203 + (y - 0.2) / 0.407 < 1)] = 5
    want[(x > 0.2) & (x < 0.5) & (y > 0.2) & (y < 0.4)] = 3
    assert np.array_equal(found, want)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [(60, 97), (131, 70), (40, 40), (32, 32)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.8])
def test_a_mask_lies_on_the_prepared_image(fit, size, crop_pct):
    spec = Spec("x", "", image_size=32, fit=fit, crop_pct=crop_pct)
    y, x = np.mgrid[: size[0], : size[1]]
    ramp = np.stack([x, y, 0 * x + 255], 2).astype(np.uint8)  # each pixel tells where it is from
    image = prepare(ramp, spec).astype(float)
    scale = max(size) / 32 if fit == "pad" else max(size) * (crop_pct if fit == "crop" else 1) / 32
    inside = image[2] > 200
    for channel in (0, 1):
        mask = prepare_mask(ramp[:, :, channel], spec, 251)
        assert mask.shape == (32, 32) and mask.dtype == np.uint8
        far = np.abs(mask - image[channel])
        assert far[inside].max() <= 0.5 * scale + 1 and far[inside].mean() <= 0.25 * scale + 0.5
        assert fit != "pad" or size[0] == size[1] or (mask[~inside] == 251).mean() > 0.9


def test_what_is_wrong_is_said(tmp_path, classes):
    def said(content: bytes | np.ndarray, name: str = "a.png") -> str:
        folder = tmp_path / "x"
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            Image.fromarray(content).save(folder / name)
        with pytest.raises(TapetumError) as error:
            Masks(folder).read("a.jpg", (6, 9))
        return str(error.value)

    assert "holds no annotation" in said(b"hello", "a.md")
    assert "9 x 5 pixels large, its image 9 x 6" in said(classes[:5])
    assert "has colours (RGB)" in said(np.repeat(classes[..., None], 3, 2))
    assert "has the value 300" in said(np.full((6, 9), 300, dtype=np.uint16))
    assert "cannot be read as an image" in said(b"\x89PNG nothing")
    for line in (b"dog 0.5 0.5 1 1", b"1 0.5 0.5 1", b"1 0 0 1 0 1", b"254 0.5 0.5 1 1", b"1 0 nan 1 1"):
        assert "line 2 of a.txt" in said(b"0 0.5 0.5 1 1\n" + line, "a.txt")
    (tmp_path / "y").mkdir()
    write(tmp_path / "y" / "a.png", classes)
    with pytest.raises(TapetumError, match=r"no annotation for b\.jpg"):
        Masks(tmp_path / "y").read("b.jpg", (6, 9))


def test_coco(data_folder):
    masks = Masks(data_folder / "coco128.zip" / "semantic_segmentation" / "masks")
    drawn = Masks(data_folder / "coco128.zip" / "instance_segmentation" / "labels")
    assert masks.has("train2017/000000000009.jpg")
    a, b = (part.read("train2017/000000000009.jpg", (480, 640)) for part in (masks, drawn))
    bowls = b == 51 + 1  # 0 is what nothing was drawn on
    assert bowls.mean() > 0.2 and (a[bowls] == 51).mean() > 0.6
