"""What holds for every operation, found by itself: the same bits, in range, settable, clear refusals."""

import re
from dataclasses import MISSING, fields

import pytest
import torch

from tapetum import views as V
from tapetum.base.errors import TapetumError
from tapetum.views import engine, fast, nest
from tapetum.views.operation import hints, is_range
from view_tools import NESTED, drawn, kinds, made, parameters, photos

KINDS = pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
NEEDS_COLOUR = {"FieldJitter", "Gray", "Hue", "Jitter", "OneOf", "Saturation", "Stain"}  # 1 or 3 channels
AUTOMATIC = {"AutoAugment", "RandAugment", "TrivialAugment"}  # colours are in some of what they draw


@pytest.fixture(autouse=True)
def batched(monkeypatch):
    """The batched operations, not the compiled kernels of some of them."""
    monkeypatch.setattr(fast, "can", lambda view, pixels: False)


def test_all_operations_are_found_and_exported():
    names = {kind.__name__ for kind in kinds()}
    assert len(names) > 35 and names <= set(V.__all__)


@KINDS
@pytest.mark.parametrize("p", [1.0, 0.5])
def test_an_image_has_the_same_bits_alone_in_any_batch_and_at_any_place(kind, p):
    step = made(kind, **({"p": p} if "p" in hints(kind) else {}))
    images = photos(7, 40)
    whole, places = drawn(V.View((step,)), images, image_size=33)
    again, _ = drawn(V.View((step,)), images, image_size=33)
    assert torch.equal(whole, again)
    for i in range(7):
        alone, _ = drawn(V.View((step,)), images[i : i + 1], torch.tensor([i]), image_size=33)
        assert torch.equal(alone[0], whole[i]), f"image {i} alone"
    order = torch.tensor([5, 2, 2, 6, 0])
    mixed, there = drawn(V.View((step,)), images[order], order, image_size=33)
    assert torch.equal(mixed, whole[order])
    for a, b in zip(
        there if isinstance(there, tuple) else [there], places if isinstance(places, tuple) else [places]
    ):
        assert torch.equal(a, b[order])


@KINDS
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_views_stay_in_range_and_keep_their_channels_or_are_refused(kind, channels):
    images = photos(12, 40, channels)
    images[0], images[1] = 0, 255
    view = V.View((made(kind),))
    if channels == 5 and kind.__name__ in NEEDS_COLOUR | AUTOMATIC:
        with pytest.raises(TapetumError, match=r"needs images of 3 channels, or of 1, .*; these have 5\."):
            for epoch in range(20):
                drawn(view, images, epoch=epoch)
    elif channels == 1 and kind is V.ChannelDrop:
        with pytest.raises(TapetumError, match="one must be left"):
            drawn(view, images)
    else:
        x, _ = drawn(view, images, image_size=33)
        assert x.shape == (12, channels, 33, 33) and x.dtype == torch.float32
        assert torch.isfinite(x).all() and x.min() >= 0 and x.max() <= 1
        assert x.is_contiguous(memory_format=torch.channels_last)


@KINDS
def test_it_does_something_and_leaves_alone_what_is_not_on(kind):
    if kind is V.Resize:
        return
    images = photos(8, 40) // 2 + 30
    plain, _ = drawn(V.View(), images)
    x, geometry = drawn(V.View((made(kind),)), images)
    assert not torch.equal(x, plain)
    if "p" in hints(kind):
        off, geometry = drawn(V.View((made(kind, p=0.0),)), images)
        torch.testing.assert_close(off, plain, atol=1e-5, rtol=0)
        transforms = geometry[0] if isinstance(geometry, tuple) else geometry
        assert torch.equal(transforms, torch.eye(3).expand(8, 3, 3))


@KINDS
def test_parameters_are_of_the_images_and_drawing_them_uses_all_its_numbers(kind):
    step = made(kind)
    given = parameters(step, 50)
    assert all(len(value) == 50 for value in given.values())
    index = torch.arange(50)
    u = torch.rand(50, step.SLOTS, generator=torch.Generator().manual_seed(0))
    size = torch.tensor([[300, 224]]).expand(50, 2)
    part = step.draw(u[index > 30], size[index > 30], 224)
    whole = step.draw(u, size, 224)
    assert all(torch.equal(part[name], whole[name][index > 30]) for name in whole)


@KINDS
def test_all_settings_are_found_by_name_and_can_be_set(kind):
    step = made(kind)
    tree = {"large": [V.View((step,))]}
    known = nest.schema(tree)
    own = [f for f in fields(kind) if f.name not in NESTED.get(kind.__name__, {})]
    assert {f"{kind.__name__.lower()}.{f.name}" for f in own} <= set(known)
    for field in own:
        name, value = f"{kind.__name__.lower()}.{field.name}", getattr(step, field.name)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert nest.configured(tree, {name: text}) == tree  # as one types it
        assert field.default is not MISSING
    if own:
        with pytest.raises(TapetumError, match="did you mean"):
            nest.configured(tree, {f"{kind.__name__.lower()}.{own[0].name}x": 1})


@KINDS
def test_limits_are_said_in_one_sentence(kind):
    for field in fields(kind):
        name = f"{kind.__name__}'s {field.name}"
        if field.name == "p":
            for wrong in (-0.1, 1.5):
                with pytest.raises(
                    TapetumError, match=re.escape(f"{name} is {wrong}; a probability lies in [0, 1].")
                ):
                    made(kind, p=wrong)
        elif field.name not in NESTED.get(kind.__name__, {}):
            with pytest.raises(TapetumError, match=re.escape(f"{name} is 'nonsense'")):
                made(kind, **{field.name: "nonsense"})
        if is_range(field.default):
            low, high = field.default if field.default[0] < field.default[1] else (1, 2)
            with pytest.raises(TapetumError, match=r"lower end comes first|lie in"):
                made(kind, **{field.name: (high, low)})


def test_numbers_that_mean_nothing_are_refused():
    for wrong in (
        lambda: V.Crop(size=-0.5),
        lambda: V.Resize(size=0),
        lambda: V.Resize(fit="stretch"),
        lambda: V.Posterise((0, 4)),
        lambda: V.Posterise((4, 9)),
        lambda: V.Jpeg((0, 50)),
        lambda: V.Jpeg((50, 101)),
        lambda: V.Shift(1.5),
        lambda: V.Shift(fill="black"),
        lambda: V.Hue((-0.6, 0.1)),
        lambda: V.Blur(sigma=(0.0, 1.0)),
        lambda: V.Brightness((-1.0, 1.0)),
        lambda: V.PatchShuffle(grid=1),
        lambda: V.Quantise(regions=1),
        lambda: V.RandAugment(magnitude=(9.0, 31.0)),
        lambda: V.RandAugment(layers=0),
        lambda: V.AutoAugment("mnist"),
        lambda: V.Rotate(float("nan")),
        lambda: V.OneOf(()),
        lambda: V.OneOf((V.Crop(),)),
        lambda: V.Shift() + V.Rotate(fill="zero"),
    ):
        with pytest.raises(TapetumError) as caught:
            wrong()
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_operations_within_operations_are_settable_too():
    tree = {"x": V.three_augment()}
    assert nest.schema(tree)["blur.sigma"] == (0.1, 2.0) and "oneof.choices" not in nest.schema(tree)
    changed = nest.configured(tree, {"blur.sigma": "1,3", "oneof": 0.5, "solarise": 0.7})
    choice = changed["x"].steps[2]
    assert choice.p == 0.5 and choice.choices == (V.Gray(1.0), V.Solarise(0.7), V.Blur(1.0, (1.0, 3.0)))
    with pytest.raises(TapetumError, match=r"did you mean 'blur.sigma'"):
        nest.configured(tree, {"blur.sgima": "1,3"})


def test_one_of_takes_each_choice_as_often_and_one_at_a_time():
    step = V.OneOf((V.Gray(1.0), V.Blur(0.5), V.Rotate()), p=0.9)
    given = parameters(step, 6000)
    on = torch.stack([given[f"{k}.on"] for k in range(3)])
    assert on.sum(0).max() == 1
    for count, share in zip(on.sum(1), (0.3, 0.15, 0.3)):
        assert abs(int(count) - 6000 * share) < 5 * (6000 * share) ** 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@KINDS
def test_a_gpu_draws_the_same_and_gives_nearly_the_same_pixels(kind):
    images, view = photos(16, 64), V.View((made(kind),))
    here, _ = drawn(view, images, image_size=56)
    there, _ = drawn(view, images.cuda(), image_size=56)
    assert ((here - there.cpu()).abs() <= 1 / 255 + 1e-6).float().mean() >= 0.999
    for i in (0, 9):
        alone, _ = drawn(view, images[i : i + 1].cuda(), torch.tensor([i]), image_size=56)
        assert torch.equal(alone[0], there[i])
    steps = engine.parameters(view, V.Draw(7, 0, 0, torch.arange(16)), torch.full((16, 2), 64), 64)
    assert all(value.device.type == "cpu" for _, given in steps for value in given.values())
