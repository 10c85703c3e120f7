"""The sheet of views: just those of training, at their relative sizes, framed where they come from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tapetum
from tapetum import cli, verbs, views
from tapetum.report import sheet
from tapetum.train import config, defaults, setup

GIVEN = {"image_size": 32, "encoder": "resnet10_w32"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory, write_photos) -> Path:
    folder = tmp_path_factory.mktemp("sheet")
    write_photos(folder)
    return folder / "photos"


def given(data, **more) -> dict:
    """The verb's settings, as it hands them on."""
    known = cli.parameters(verbs.VERBS["preview"])
    return {name: p.default for name, p in known.items()} | {"data": data, **GIVEN, **more}


def shown(data, groups: dict | None = None, **more) -> sheet.Sample:
    return sheet.sample(given(data, **more), groups or {})


def trained_on(data, epoch: int, groups: dict, **more) -> views.Batch:
    """The first batch of an epoch of a run with these settings."""
    typed = dict.fromkeys(cli.parameters(verbs.VERBS["pretrain"])) | defaults.PLAIN
    typed |= {"data": data, "steps": 9, "batch_size": 8, **GIVEN, **more}
    job = setup.prepare(typed, config.parsed(groups, typed["method"]), quiet=True)
    return next(job.feed.batches(epoch * job.feed.steps_per_epoch, 99))


@pytest.mark.parametrize("epoch", [0, 2])
def test_it_shows_what_training_sees_bit_for_bit(photos, epoch):
    more = {"seed": 5, "method": "dino"}
    groups = {"method": {"small_crops": 2, "prototypes": 8, "hidden": 8}, "views": {"small.flip": 1}}
    batch = trained_on(photos, epoch, groups, **more)
    found = shown(photos, groups, images=8, epoch=epoch, **more)
    assert list(found.views) == ["large 0", "large 1", "small 0", "small 1"]
    for name, (x, geometry) in found.views.items():
        branch, number = name.split()
        assert torch.equal(x, batch[branch][int(number)])
        assert torch.equal(geometry, batch.geometry[branch][int(number)])
    assert not torch.equal(found.views["large 0"][0], found.views["large 1"][0])


def test_views_of_a_vit_fit_its_patches_as_in_training(photos):
    groups = {"method": {"small_crops": 1, "prototypes": 8, "hidden": 8}}
    vit = {"encoder": "vit_mini", "method": "dino"}
    batch = trained_on(photos, 0, groups, **vit)
    found = shown(photos, groups, **vit)
    assert torch.equal(found.views["small 0"][0], batch["small"][0])


def turned(crop: list[float], flip: bool) -> torch.Tensor:
    left, top, width, height = crop
    box = views.geometry.axes(*(torch.tensor([v]) for v in (width, height, left, top)))
    return box @ views.Flip().place({"on": torch.tensor([flip])})


@pytest.mark.parametrize("flip", [False, True])
def test_an_outline_is_the_box_that_was_cropped(flip):
    [line] = sheet.outlines(turned([0.2, 0.3, 0.5, 0.4], flip))
    low, high = line.amin(0), line.amax(0)
    np.testing.assert_allclose(low, [0.2, 0.3], atol=0.01)
    np.testing.assert_allclose(high, [0.7, 0.7], atol=0.01)
    np.testing.assert_allclose(line[0], [0.7 if flip else 0.2, 0.3], atol=0.01)  # the view's upper left
    steps = (line.roll(-1, 0) - line).abs().amax(1)  # all around, without a jump
    assert steps.max() < 0.05


def test_an_outline_of_a_bent_view_is_bent(photos):
    found = shown(photos, {"views": {"with": "elastic", "elastic.p": 1}})
    _, geometry = found.views["views 0"]
    line = sheet.outlines(geometry)
    assert line.shape == (8, 256, 2) and line[:, :64, 1].std(1).max() > 1e-3  # an upper edge is not level


def places(page: np.ndarray, block: np.ndarray) -> list[tuple[int, int]]:
    """Where (row, column) a block of pixels stands on a page."""
    height, width = block.shape[:2]
    starts = np.argwhere((page[: -height or None, : -width or None] == block[0, 0]).all(2))
    return [(r, c) for r, c in starts if np.array_equal(page[r : r + height, c : c + width], block)]


def test_each_view_stands_once_in_its_column_at_its_size(photos):
    groups = {"method": {"small_crops": 1, "prototypes": 8, "hidden": 8}}
    found = shown(photos, groups, method="dino", images=3)
    page = np.asarray(sheet.drawn(found, "title", "line"))
    tops, lefts = [], []
    for x, _ in found.views.values():
        for view in x:
            pixels = (view * 255).round().byte().permute(1, 2, 0).numpy()
            large = pixels.repeat(5, 0).repeat(5, 1)  # 32 pixels are drawn as 160, all others in proportion
            [(top, left)] = places(page, large)
            tops.append(top)
            lefts.append(left)
            assert tuple(page[top - 1, left]) == tuple(page[top, left - 1]) != tuple(page[0, 0])  # the frame
    assert len(set(tops)) == 3 and len(set(lefts)) == 3 and sorted(lefts) == lefts


def test_a_frame_has_the_colour_of_its_box(photos):
    found = shown(photos, images=1, method="mae", encoder="vit_mini")
    [(name, (x, _))] = found.views.items()
    whole = turned([0.25, 0.25, 0.5, 0.5], False)
    plain = torch.full_like(found.pixels, 200)
    page = np.asarray(sheet.drawn(sheet.Sample("all", ["a"], plain, found.size, {name: (x, whole)}), "", ""))
    top, left = sheet.MARGIN + sheet.HEAD + sheet.TITLE, sheet.MARGIN
    blue = np.array([int(sheet.COLOURS[0][k : k + 2], 16) for k in (1, 3, 5)])
    image = page[top : top + sheet.ORIGINAL, left : left + sheet.ORIGINAL]
    rows, columns = np.nonzero((abs(image.astype(int) - blue) < 30).all(2))
    quarter, dot = sheet.ORIGINAL / 4, 8
    assert abs(rows.min() - quarter) < dot and abs(rows.max() - 3 * quarter) < dot
    assert abs(columns.min() - quarter) < dot and abs(columns.max() - 3 * quarter) < dot
    assert (image[sheet.ORIGINAL // 2, sheet.ORIGINAL // 2] == 200).all()  # the middle stays to be seen


def test_images_keep_their_shape():
    pixels = torch.arange(48, dtype=torch.uint8).view(1, 3, 4, 4)
    assert sheet.original(pixels[0], [30.0, 60.0]).size == (sheet.ORIGINAL, sheet.ORIGINAL // 2)
    assert sheet.original(pixels[0], [400.0, 1.0]).size == (1, sheet.ORIGINAL)


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_images_of_any_number_of_channels_are_drawn(channels):
    images = np.random.default_rng(0).integers(0, 255, (9, 24, 24, channels), dtype=np.uint8)
    found = shown(images, method="mae", encoder="vit_mini", images=2, channels=channels)
    [(x, _)] = found.views.values()
    assert x.shape == (2, channels, 32, 32)
    drawn = np.asarray(sheet.picture(x[0]))
    wanted = (x[0] * 255).round().byte()
    np.testing.assert_array_equal(drawn[:, :, 0], wanted[0])
    np.testing.assert_array_equal(drawn[:, :, 2], wanted[min(2, channels - 1)] if channels > 2 else wanted[0])


def test_a_damaged_image_has_the_stand_in_that_training_gives_it(tmp_path):
    for i in range(20):
        pixels = np.full((32, 32, 3), 10 * i, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i:02d}.png")
    (tmp_path / "07.png").write_bytes(b"nothing")
    found = shown(tmp_path, images=20)
    assert len(found.names) == 20 and found.names.count("08.png") == 2 and "07.png" not in found.names
    at = [k for k, name in enumerate(found.names) if name == "08.png"]
    assert (found.pixels[at] == 80).all()


def test_the_verb_writes_a_picture_and_says_what_is_on_it(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = "--image-size 32 --encoder resnet10_w32 --views.crop.scale 0.5,1 --views.blur 0"
    code = cli.main(["preview", str(photos), *small.split(), "--images", "30", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code == 0 and answer["views"] == {"views 0": 32, "views 1": 32} and len(answer["images"]) == 24
    first = Path("preview.png").read_bytes()
    with Image.open("preview.png") as image:
        assert image.format == "PNG" and image.height > 24 * 160
    again = tapetum.preview(
        photos,
        **GIVEN,
        out="preview.png",
        images=24,
        overwrite=True,
        views_settings={"crop.scale": (0.5, 1), "blur": 0},
    )
    assert again["images"] == answer["images"] and Path("preview.png").read_bytes() == first


def test_long_names_keep_their_end():
    from PIL import ImageFont

    font = ImageFont.load_default(12)
    short = sheet.shortened("a/very/long/path/" * 9 + "end.png", font, 100)
    assert short.startswith("…") and short.endswith("end.png") and font.getlength(short) <= 100
    assert sheet.shortened("end.png", font, 100) == "end.png"
