"""Every number that an operation draws follows the distribution that it says, for every operation."""

import math

import pytest
import torch
from scipy import stats

from tapetum import views as V
from tapetum.base import random
from tapetum.views.operation import Chance, Operation, is_range
from view_tools import kinds, made, parameters

COUNT = 20_000
ENOUGH = 1e-4  # of one p-value; about 100 of them are looked at, with fixed seeds
SIDE = 224


def even(low, high):
    return stats.uniform(low, high - low)


def whole(values, low, high):
    """Chi-squared p-value of whole numbers, each as likely."""
    found = torch.bincount(values.long() - low, minlength=high - low + 1)
    return stats.chisquare(found.numpy()).pvalue


# What operations draw besides whether they are on, keys, and numbers even over a setting of the same name.
SPECIAL = {
    (V.Jitter, "brightness"): even(0.2, 1.8),
    (V.Jitter, "contrast"): even(0.2, 1.8),
    (V.Jitter, "saturation"): even(0.2, 1.8),
    (V.Jitter, "hue"): even(-0.2, 0.2),
    (V.Posterise, "bits"): lambda v: whole(v, 4, 8),
    (V.Jpeg, "quality"): lambda v: whole(v, 30, 95),
    (V.QuarterTurn, "turns"): lambda v: whole(v, 0, 3),
    (V.OneOf, "choice"): lambda v: whole(v, 0, 2),
    (V.PatchShuffle, "order"): lambda v: whole(v[:, 4], 0, 8),
    (V.Shift, "left"): lambda v: whole((v * SIDE).round() + 28, 0, 56) if (v * SIDE).abs().max() == 28 else 0,
    (V.Shift, "top"): lambda v: whole((v * SIDE).round() + 28, 0, 56),
    (V.Cutout, "left"): even(-0.25, 0.75),
    (V.Cutout, "top"): even(-0.25, 0.75),
    (V.GridMask, "left"): even(0, 1),
    (V.GridMask, "top"): even(0, 1),
    (V.OneOf, "2.degrees"): even(-30, 30),
    (V.OneOf, "1.sigma"): even(0.1, 2.0),
}
CONSTANT = {(V.Solarise, "threshold"), (V.Cutout, "width"), (V.Cutout, "height"), (V.Resize, "width")}
CONSTANT |= {(V.Resize, "height"), (V.Affine, "shear_y"), (V.Elastic, "alpha"), (V.Elastic, "sigma")}
ELSEWHERE = {
    V.Crop,
    V.Erase,
    V.Perspective,
    V.AutoAugment,
    V.RandAugment,
    V.TrivialAugment,
    V.AugMix,
}  # below, auto


@pytest.mark.parametrize("kind", [k for k in kinds() if k not in ELSEWHERE], ids=lambda kind: kind.__name__)
def test_what_is_drawn_follows_what_is_said(kind: type[Operation]):
    step = made(kind)
    given = parameters(step, COUNT, SIDE)
    for name, values in given.items():
        setting = getattr(step, name, None)
        if name == "on" or name.endswith(".on"):
            continue
        if name == "key":
            assert len(values.unique()) > COUNT - 3
            assert stats.kstest(random.more(values).numpy(), "uniform").pvalue > ENOUGH
        elif (kind, name) in CONSTANT:
            assert len(values.unique()) == 1
        elif (kind, name) in SPECIAL:
            wanted = SPECIAL[kind, name]
            p = stats.kstest(values.numpy(), wanted.cdf).pvalue if hasattr(wanted, "cdf") else wanted(values)
            assert p > ENOUGH, (name, p)
        else:
            assert is_range(setting), (
                f"{name} of {kind.__name__} is drawn, and no distribution is said for it"
            )
            assert stats.kstest(values.numpy(), even(*setting).cdf).pvalue > ENOUGH, name


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "kind", [k for k in kinds() if issubclass(k, Chance)], ids=lambda kind: kind.__name__
)
def test_it_happens_as_often_as_it_says(kind, p):
    on = parameters(made(kind, p=p), COUNT)["on"]
    assert abs(int(on.sum()) - COUNT * p) <= 5 * (COUNT * p * (1 - p)) ** 0.5


@pytest.mark.parametrize(
    "kind", [k for k in kinds() if issubclass(k, Chance)], ids=lambda kind: kind.__name__
)
def test_what_is_drawn_does_not_depend_on_whether_it_happens(kind):
    """Nor on each other: no correlation beyond chance between any two numbers of an operation."""
    given = parameters(made(kind, p=0.5), COUNT)
    numbers = {n: v.double() for n, v in given.items() if v.ndim == 1 and n != "key" and len(v.unique()) > 1}
    boxes = ("left", "top", "width", "height")  # of Erase, which depend on each other
    for a in numbers:
        for b in numbers:
            if a < b and not (kind is V.Erase and a in boxes and b in boxes):
                r = float(torch.corrcoef(torch.stack([numbers[a], numbers[b]]))[0, 1])
                assert abs(r) < 5 / COUNT**0.5, (a, b, r)


def test_erased_boxes_have_the_published_areas_aspects_and_places():
    """Even in area and log aspect where every try fits; as torchvision takes the first that fits, long boxes
    of large areas are rarer."""
    step = V.Erase((0.02, 0.2), (0.5, 2.0), p=1.0)
    given = parameters(step, COUNT)
    area, aspect = given["width"] * given["height"], given["width"] / given["height"]
    assert stats.kstest(area.numpy(), even(0.02, 0.2).cdf).pvalue > ENOUGH
    assert stats.kstest(aspect.log().numpy(), even(-math.log(2), math.log(2)).cdf).pvalue > ENOUGH
    for start, length in (("left", "width"), ("top", "height")):
        assert stats.kstest((given[start] / (1 - given[length])).numpy(), "uniform").pvalue > ENOUGH
    never = parameters(V.Erase((0.9, 0.9), (3.0, 3.3), p=1.0), 100)
    assert (never["width"] == 0).all()  # no try fits: nothing is erased


def test_erase_and_crop_draw_torchvisions_boxes():
    """Two samples of boxes, ours and torchvision's, are not to be told apart."""
    from torchvision import transforms as T

    torch.manual_seed(0)
    image = torch.zeros(3, 300, 400)
    theirs = torch.tensor(
        [T.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(3000)]
    )
    ours = parameters(V.Crop(), 3000, size=torch.tensor([[300, 400]]))
    for k, (name, scale) in enumerate({"top": 300, "left": 400, "height": 300, "width": 400}.items()):
        found = (ours[name] * scale).numpy()
        assert stats.ks_2samp(found, theirs[:, k].numpy()).pvalue > 1e-3, name
    square = torch.zeros(3, 224, 224)
    theirs = [T.RandomErasing.get_params(square, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(3000)]
    ours = parameters(V.Erase(), 3000)
    for k, name in enumerate(("top", "left", "height", "width")):
        assert stats.ks_2samp((ours[name] * 224).numpy(), [box[k] for box in theirs]).pvalue > 1e-3, name


def test_perspective_draws_torchvisions_corners():
    corners = parameters(V.Perspective(0.6), COUNT)["corners"]
    inwards = torch.stack([corners[:, k] * (1 - 2 * e) + e for k, e in enumerate(ends())], 1)
    for k in range(4):
        for axis in range(2):
            assert stats.kstest(inwards[:, k, axis].numpy(), even(0, 0.3).cdf).pvalue > ENOUGH


def ends():
    return torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
