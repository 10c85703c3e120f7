"""The policies hold the published numbers, and every one of them makes views."""

import inspect

import pytest
import torch

from tapetum import views as V
from tapetum.base.errors import TapetumError
from tapetum.views import nest, policies
from view_tools import drawn, photos

NAMES = [
    name
    for name, f in vars(policies).items()
    if inspect.isfunction(f) and f.__module__ == policies.__name__ and not inspect.signature(f).parameters
] + ["simclr", "byol_pair", "moco_v3", "swav", "dino", "msn", "crop_only", "autoaugment", "randaugment"]


def flat(tree):
    """The tensors of a nest."""
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else None
    return [tree] if parts is None else [found for part in parts for found in flat(part)]


@pytest.mark.parametrize("name", NAMES)
def test_every_policy_makes_views_that_are_the_images_own(name):
    tree = getattr(V, name)()
    tree = {"x": tree if isinstance(tree, dict | list) else [tree]}
    images = photos(6, 48)
    x, geometry = drawn(tree, images, image_size=32)
    alone, _ = drawn(tree, images[4:5], torch.tensor([4]), image_size=32)
    for a, b in zip(flat(x), flat(alone)):
        assert torch.equal(a[4:5], b) and a.min() >= 0 and a.max() <= 1
    assert len(flat(x)) == len(flat(geometry)) == len(list(nest.leaves(tree)))


def test_every_policy_is_exported_with_its_source():
    for name, f in vars(policies).items():
        if inspect.isfunction(f) and f.__module__ == policies.__name__:
            assert name in V.__all__, name
            assert "arXiv:" in f.__doc__ or name in ("crop_only", "light"), name


# step -> its settings, as the papers (and their code, where the paper is silent) have them
PUBLISHED = {
    "simclr": {
        "crop.scale": (0.08, 1.0),
        "flip.p": 0.5,
        "jitter.p": 0.8,
        "jitter.brightness": 0.8,
        "jitter.contrast": 0.8,
        "jitter.saturation": 0.8,
        "jitter.hue": 0.2,
        "gray.p": 0.2,
        "blur.p": 0.5,
        "blur.sigma": (0.1, 2.0),
    },
    "byol_pair": {
        "crop.scale": (0.08, 1.0),
        "jitter.brightness": 0.4,
        "jitter.contrast": 0.4,
        "jitter.saturation": 0.2,
        "jitter.hue": 0.1,
        "jitter.p": 0.8,
        "gray.p": 0.2,
        "blur.p": [1.0, 0.1],
        "solarise.p": [0.0, 0.2],
        "solarise.threshold": 0.5,
    },
    "moco_v1": {"crop.scale": (0.2, 1.0), "gray.p": 0.2, "jitter.hue": 0.4, "jitter.p": 1.0, "flip.p": 0.5},
    "moco_v2": {"crop.scale": (0.2, 1.0), "jitter.hue": 0.1, "jitter.p": 0.8, "blur.p": 0.5, "gray.p": 0.2},
    "moco_v3": {"crop.scale": (0.08, 1.0), "blur.p": [1.0, 0.1], "solarise.p": [0.0, 0.2], "jitter.hue": 0.1},
    "swav": {"crop.scale": [(0.14, 1.0), (0.05, 0.14)], "crop.size": [1.0, 0.43], "jitter.hue": 0.2},
    "dino": {"crop.scale": [(0.4, 1.0), (0.05, 0.4)], "blur.p": [1.0, 0.1, 0.5], "solarise.p": [0.0, 0.2]},
    "msn": {"crop.scale": [(0.3, 1.0), (0.05, 0.3)], "jitter.hue": 0.1, "blur.p": 0.5},
    "mae": {"crop.scale": (0.2, 1.0), "flip.p": 0.5},
    "shifted": {"shift.share": 0.125, "shift.fill": "mirror", "flip.p": 0.5},
    "three_augment": {"gray.p": 1.0, "solarise.p": 1.0, "blur.p": 1.0, "oneof.p": 1.0,
                      "jitter.brightness": 0.3, "jitter.hue": 0.0, "jitter.p": 1.0, "blur.sigma": (0.1, 2.0)},
    "randaugment": {"randaugment.layers": 2, "randaugment.magnitude": (9.0, 9.0)},
    "augmix": {"augmix.severity": 3.0, "augmix.width": 3, "augmix.depth": 0},
    "weak": {"flip.p": 0.5, "shift.share": 0.125},
    "strong": {"randaugment.layers": 2, "randaugment.magnitude": (0.0, 30.0), "randaugment.space": "fixmatch",
               "cutout.share": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_policy_has_the_published_numbers(name):
    found = nest.schema(getattr(V, name)())
    assert {key: found[key] for key in PUBLISHED[name]} == PUBLISHED[name]


def test_multi_crop_has_two_large_and_six_small_views():
    for tree in (V.swav(), V.dino()):
        assert {name: len(part) for name, part in tree.items()} == {"large": 2, "small": 6}
    assert len(V.swav(8)["small"]) == 8


def test_autoaugment_of_small_images_shifts_and_cuts_out():
    kinds = [type(step).__name__ for step in V.autoaugment("cifar10").steps]
    assert kinds == ["Shift", "Flip", "AutoAugment", "Cutout"]
    assert nest.schema(V.autoaugment("svhn"))["cutout.share"] == 20 / 32
    assert nest.schema(V.autoaugment("svhn"))["flip.p"] == 0.0


def test_every_setting_of_a_policy_can_be_typed():
    tree = nest.configured(
        V.dino(), {"flip": "0", "small.crop.scale": "0.1,0.3", "large.blur.sigma": "0.5,1"}
    )
    found = nest.schema(tree)
    assert found["flip.p"] == 0.0 and found["crop.scale"] == [(0.4, 1.0), (0.1, 0.3)]
    assert found["blur.sigma"] == [(0.5, 1.0), (0.1, 2.0)]
    tree = nest.configured(
        V.strong(), {"randaugment.magnitude": "5,10", "randaugment.fill": "zero", "shift.fill": "zero"}
    )
    assert nest.schema(tree)["randaugment.magnitude"] == (5.0, 10.0)


def test_operations_are_added_by_name():
    tree = nest.configured(
        {"x": V.light()}, {"with": "RandAugment,erase", "erase": 0.25, "randaugment.layers": "3"}
    )
    steps = tree["x"].steps
    assert steps[:2] == V.light().steps and steps[2:] == (V.RandAugment(3), V.Erase(p=0.25))
    tree = nest.configured(V.dino(), {"small.with": "fieldwarp", "small.fieldwarp.p": "0.3", "flip": 0})
    assert [type(view.steps[-1]) for view in tree["small"]] == 6 * [V.FieldWarp]
    assert tree["small"][0].steps[-1].p == 0.3 and tree["large"][0].steps[-1] == V.Solarise(0.0)
    more = {"with": ("autoaugment", "cutout"), "autoaugment.policy": "cifar10"}
    cifar = nest.configured(V.shifted(), more | {"shift.fill": "gray", "autoaugment.fill": "gray"})
    assert cifar == V.autoaugment("cifar10")
    with pytest.raises(TapetumError, match=r"unknown operation 'erose'; did you mean 'erase'\?"):
        nest.configured(V.light(), {"with": "erose"})
    with pytest.raises(TapetumError, match=r"one fill .* Shift 'mirror' and AutoAugment 'gray'"):
        nest.configured(V.shifted(), {"with": "autoaugment", "autoaugment.fill": "gray"})
    assert nest.configured(V.weak(), {"with": "autoaugment"}).outside() == "mirror"
