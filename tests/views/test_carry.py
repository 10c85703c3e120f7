"""Masks, points and boxes go where a view's pixels go."""

import pytest
import torch

from tapetum import views as V
from tapetum.views import carry
from tapetum.views.operation import Chance
from tapetum.views.sample import Bent
from view_tools import drawn, made, photos

VIEWS = {
    "crop and flip": V.Crop(scale=(0.3, 0.8)) + V.Flip(),
    "shift": V.Shift(0.2) + V.VerticalFlip(),
    "turn": V.Crop(scale=(0.5, 1.0)) + V.Rotate((-60.0, 60.0), fill="zero"),
    "affine": V.Affine(fill="zero") + V.QuarterTurn(),
    "tilt": V.Perspective(0.5, 1.0, "zero") + V.Flip(),
    "elastic": V.Crop(scale=(0.5, 1.0)) + V.Elastic((40.0, 40.0), (8.0, 8.0), 1.0, "zero"),
    "field": V.FieldWarp(p=1.0, fill="zero") + V.Rotate(fill="zero"),
    "small": V.Crop(0.5, (0.1, 0.3)) + V.Flip(),
}


def dots(places: torch.Tensor, side: int = 96) -> torch.Tensor:
    """Images [B, 1, S, S] uint8 with a soft white dot at each place [B, 2]."""
    at = (torch.arange(side) + 0.5) / side
    x, y = (at - places[:, 0, None])[:, None, :], (at - places[:, 1, None])[:, :, None]
    return (255 * torch.exp(-(x**2 + y**2) * (side / 3) ** 2)).to(torch.uint8)[:, None]


@pytest.mark.parametrize("name", VIEWS)
def test_points_are_where_the_pixels_went(name):
    places = 0.3 + 0.4 * torch.rand(40, 2, generator=torch.Generator().manual_seed(1))
    x, geometry = drawn(VIEWS[name], dots(places))
    found, seen = carry.points(places[:, None], geometry)
    assert seen.sum() > 8
    side, checked = x.shape[-1], 0
    for image, place, shown in zip(x[:, 0], found[:, 0], seen[:, 0]):
        if shown and (place > 0.1).all() and (place < 0.9).all():
            brightest = image.flatten().argmax()
            there = torch.tensor(
                [(int(brightest) % side + 0.5) / side, (int(brightest) // side + 0.5) / side]
            )
            assert (there - place).abs().max() < 1.6 / side
            checked += 1
        elif not shown and name != "shift":
            assert image[2:-2, 2:-2].max() < 0.99
    assert checked > 5


@pytest.mark.parametrize("name", VIEWS)
def test_masks_show_what_the_view_shows(name):
    """A mask of the image's own bright parts is the view's bright parts, but for their edges."""
    images = photos(6, 96, 1)
    view = VIEWS[name]
    x, geometry = drawn(view, images)
    side = x.shape[-1]
    outside = "mirror" if view.outside() == "mirror" else 0
    found = carry.masks(images[:, 0], geometry, side, outside)  # the image as a mask of 256 classes
    assert found.dtype == torch.uint8 and found.shape == (6, side, side)
    gap = (found / 255 - x[:, 0]).abs()
    assert gap.mean() < 0.03 and gap.median() < 0.02
    several = carry.masks(torch.cat([images > 128, images > 200], 1), geometry, side, outside)
    assert torch.equal(several[:, 1], found > 200)


def test_masks_say_what_lies_outside():
    geometry = torch.tensor([[[1.0, 0, -0.5], [0, 1, 0], [0, 0, 1]]])  # the left half comes from outside
    mask = torch.arange(8)[None, None].expand(1, 8, 8)
    rows = {
        -1: [-1, -1, -1, -1, 0, 1, 2, 3],
        "edge": [0, 0, 0, 0, 0, 1, 2, 3],
        "mirror": [4, 3, 2, 1, 0, 1, 2, 3],
    }
    for outside, row in rows.items():
        assert carry.masks(mask, geometry, 8, outside)[0, 5].tolist() == row


@pytest.mark.parametrize("name", VIEWS)
def test_boxes_hold_what_they_held(name):
    count = 30
    low = 0.2 + 0.3 * torch.rand(count, 1, 2, generator=torch.Generator().manual_seed(2))
    boxes = torch.cat([low, low + 0.25], 2)
    images = torch.zeros(count, 1, 96, 96, dtype=torch.uint8)
    for image, (left, top, right, bottom) in zip(images, (boxes[:, 0] * 96).round().long().tolist()):
        image[:, top:bottom, left:right] = 255
    boxes = (boxes * 96).round() / 96
    x, geometry = drawn(VIEWS[name], images)
    found, left = carry.boxes(boxes, geometry)
    side, checked = x.shape[-1], 0
    for image, box, share in zip(x[:, 0], found[:, 0], left[:, 0]):
        if share < 0.3 or name == "shift":
            continue
        rows, columns = (image > 0.5).nonzero().unbind(1)
        there = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / side
        assert (there - box).abs().max() < 2.1 / side
        checked += 1
    assert checked > 10 or name == "shift"


def test_the_share_of_a_box_that_is_left():
    geometry = torch.tensor([[[0.5, 0, 0.5], [0, 1, 0], [0, 0, 1]]])  # the right half
    boxes = torch.tensor([[[0.25, 0.2, 0.75, 0.4], [0.5, 0, 1, 1], [0.0, 0, 0.4, 1]]])
    found, left = carry.boxes(boxes, geometry)
    torch.testing.assert_close(left, torch.tensor([[0.5, 1.0, 0.0]]))
    torch.testing.assert_close(found[0, 0], torch.tensor([0.0, 0.2, 0.5, 0.4]))


@pytest.mark.parametrize("name", VIEWS)
def test_places_and_points_are_each_others_inverse(name):
    _, geometry = drawn(VIEWS[name], photos(5, 48))
    there = carry.places(geometry, 24)
    back, _ = carry.points(there.flatten(2).mT, geometry)
    want = (torch.stack(torch.meshgrid(torch.arange(24), torch.arange(24), indexing="xy")) + 0.5) / 24
    gap = (back.mT.reshape(5, 2, 24, 24) - want).abs()
    assert gap[:, :, 3:-3, 3:-3].max() < (0.02 if isinstance(geometry, Bent) else 1e-4)


def test_a_view_is_where_its_geometry_says():
    """Every operation that reports a geometry: a smooth image, looked up there, is the view."""
    images = photos(4, 64, 1)
    for kind in (V.Crop, V.Resize, V.Shift, V.Flip, V.VerticalFlip, V.Rotate, V.Affine, V.QuarterTurn):
        x, geometry = drawn(V.View((made(kind),)), images)
        found = carry.masks(images[:, 0], geometry, 64, "mirror") / 255
        assert (found - x[:, 0]).abs().mean() < 0.02, kind
        assert issubclass(kind, Chance) or kind in (V.Crop, V.Resize, V.Shift, V.QuarterTurn)
