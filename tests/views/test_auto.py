"""Automatic augmentation: published tables, choices as often as published, torchvision's operations."""

import pytest
import torch
from torchvision.transforms import InterpolationMode, autoaugment

from tapetum import views as V
from tapetum.views import engine
from tapetum.views.auto import ACTIONS, SPACES, amounts, compose, paint
from tapetum.views.sample import warp
from tapetum.views.subpolicies import SUBPOLICIES
from view_tools import drawn, parameters, photos

LEVEL = 1 / 255
BILINEAR = InterpolationMode.BILINEAR
THEIRS = {
    "Color": "Saturation",
    "Posterize": "Posterise",
    "Solarize": "Solarise",
    "Equalize": "Equalise",
    "TranslateX": "MoveX",
    "TranslateY": "MoveY",
}
OURS = {ours: theirs for theirs, ours in THEIRS.items()}


@pytest.mark.parametrize("policy", SUBPOLICIES)
def test_autoaugments_tables_are_the_published_ones(policy):
    theirs = autoaugment.AutoAugment(autoaugment.AutoAugmentPolicy(policy)).policies
    named = [[(THEIRS.get(name, name), p, level or 0) for name, p, level in pair] for pair in theirs]
    assert SUBPOLICIES[policy] == named and len(named) == 25


def in_their_units(name, amount, side=48):
    """One of our amounts as torchvision says it."""
    scale = {"MoveX": side, "MoveY": side, "Solarise": 255}.get(name, 1)
    start = 1 if name in ("Brightness", "Saturation", "Contrast", "Sharpness") else 0
    return (amount - start) * scale


@pytest.mark.parametrize(
    ("space", "bins", "table"),
    [
        ("standard", 10, autoaugment.AutoAugment()._augmentation_space(10, (48, 48))),
        ("standard", 31, autoaugment.RandAugment()._augmentation_space(31, (48, 48))),
        ("wide", 31, autoaugment.TrivialAugmentWide()._augmentation_space(31)),
        ("augmix", 10, autoaugment.AugMix(all_ops=False)._augmentation_space(10, (48, 48))),
    ],
)
def test_strengths_are_the_published_ones(space, bins, table):
    for theirs, (values, signed) in table.items():
        name = THEIRS.get(theirs, theirs)
        if name not in SPACES[space] or values.ndim == 0:
            assert name in SPACES[space] or theirs == "Invert"
            continue
        action = torch.full((bins,), ACTIONS.index(name))
        strength = torch.arange(bins) / (bins - 1)
        for negative in (False, True):
            found = amounts(SPACES[space], action, strength, torch.full((bins,), negative))
            side = 224 if space == "wide" else 48  # 32 pixels of 224
            found = in_their_units(name, found, side)
            want = -values if negative and signed else values
            torch.testing.assert_close(found, want.float(), atol=1e-4, rtol=1e-5)
    names = {THEIRS.get(name, name) for name in table} - {"Invert"}
    assert names | {"Identity"} == set(SPACES[space]) | {"Identity"}


# what each action does, at strengths that show it
SHOWN = {"ShearX": 0.25, "ShearY": -0.3, "MoveX": 0.25, "MoveY": -0.125, "Rotate": 25.0, "Brightness": 0.4}
SHOWN |= {"Saturation": 1.7, "Contrast": 0.5, "Sharpness": 1.8, "Posterise": 3, "Solarise": 0.4}


def theirs(images, name, amount):
    their = OURS.get(name, name)
    return torch.stack(
        [autoaugment._apply_op(x, their, in_their_units(name, amount), BILINEAR, None) for x in images]
    ).float()


def acted(images, actions, values, fill="zero"):
    """What we make of images with the same actions for all."""
    action = torch.tensor([ACTIONS.index(name) for name in actions]).expand(len(images), -1)
    amount = torch.tensor([float(v) for v in values]).expand(len(images), -1)
    x = warp(images, compose(action, amount), images.shape[-1], fill)
    return paint(x, action, amount)


@pytest.mark.parametrize("name", [name for name in ACTIONS if name != "Identity"])
def test_each_action_is_torchvisions(name):
    images = (photos(4) * 0.7 + 30).to(torch.uint8)
    images[:, :, ::8] //= 2  # something sharp
    amount = SHOWN.get(name, 0)
    want = theirs(images, name, amount) / 255
    gap = (acted(images, [name], [amount]) - want).abs().mean()
    assert gap < LEVEL, f"{gap * 255} levels"
    assert (images / 255 - want).abs().mean() > 2 * gap


@pytest.mark.parametrize(
    ("pair", "values", "levels"),
    [
        (("Rotate", "Solarise"), (24, 0.5), 1),  # geometry first: as published
        (("Brightness", "Contrast"), (1.5, 0.6), 1),
        (("ShearY", "MoveX"), (0.2, 0.25), 1),  # they sample twice, we once
        (("Brightness", "Rotate"), (0.6, 24), 1),  # colours of single pixels and moves commute
        (("Invert", "Rotate"), (0, 24), 40),  # but what comes in from outside is inverted by us, not by them
        (("Equalise", "MoveX"), (0, 0.125), 20),  # and it counts in our histogram, not in theirs
    ],
)
def test_moving_first_differs_from_the_published_order_by_so_many_levels(pair, values, levels):
    images = photos(6)
    want = images
    for name, value in zip(pair, values):
        want = theirs(want, name, value).to(torch.uint8)
    gap = (acted(images, pair, values) - want / 255).abs()
    assert gap.mean() < levels * LEVEL
    if pair == ("Invert", "Rotate"):  # inside, nothing differs
        assert gap[:, :, 16:32, 16:32].mean() < LEVEL


def counts(action, weights):
    """Whether actions occur as often as their weights say, within 5 standard deviations."""
    found = torch.bincount(action.flatten(), minlength=len(ACTIONS)).double()
    share = torch.tensor([weights.get(name, 0.0) for name in ACTIONS], dtype=torch.float64)
    total = action.numel()
    return ((found - total * share).abs() <= 5 * (total * share * (1 - share)).sqrt() + 1e-9).all()


@pytest.mark.parametrize("policy", SUBPOLICIES)
def test_autoaugment_takes_each_pair_as_often_with_the_pairs_probabilities(policy):
    given = parameters(V.AutoAugment(policy), 40_000)
    for k in range(2):
        weights: dict[str, float] = {}
        for pair in SUBPOLICIES[policy]:
            name, p, _ = pair[k]
            weights[name] = weights.get(name, 0) + p / 25
        weights["Identity"] = 1 - sum(weights.values())
        assert counts(given["action"][:, k], weights)
    signed = given["action"] == ACTIONS.index("Rotate")
    if signed.sum() > 500:
        up = (given["amount"][signed] > 0).double().mean()
        assert abs(float(up) - 0.5) < 5 * (0.25 / int(signed.sum())) ** 0.5
    assert not torch.equal(given["action"], parameters(V.AutoAugment(policy), 40_000, seed=1)["action"])


def test_autoaugment_draws_pairs_not_single_actions():
    given = parameters(V.AutoAugment("imagenet"), 40_000)
    pairs = {tuple(ACTIONS[a] for a in row) for row in given["action"].tolist()}
    allowed = {
        (a if first else "Identity", b if second else "Identity")
        for (a, _, _), (b, _, _) in SUBPOLICIES["imagenet"]
        for first in (True, False)
        for second in (True, False)
    }
    assert pairs <= allowed


@pytest.mark.parametrize("space", ["standard", "wide", "fixmatch"])
def test_randaugment_takes_each_action_as_often_in_each_layer(space):
    given = parameters(V.RandAugment(3, (9.0, 9.0), space), 30_000)
    names = SPACES[space]
    assert len(names) == 14
    for k in range(3):
        assert counts(given["action"][:, k], {name: 1 / 14 for name in names})
    together = given["action"][:, 0] * 100 + given["action"][:, 1]
    assert len(together.unique()) == 14 * 14
    turned = given["amount"][given["action"] == ACTIONS.index("Rotate")]
    assert set((turned / (135 if space == "wide" else 30)).abs().mul(30).round().tolist()) == {9}


def test_trivialaugment_draws_31_strengths_evenly():
    given = parameters(V.TrivialAugment(), 60_000)
    assert given["action"].shape == (60_000, 1)
    assert counts(given["action"], {name: 1 / 14 for name in SPACES["wide"]})
    shear = given["amount"][given["action"] == ACTIONS.index("ShearX")]
    bins, found = (shear.abs() / 0.99 * 30).round().long().unique(return_counts=True)
    assert torch.equal(bins, torch.arange(31))
    assert ((found - len(shear) / 31).square().sum() / (len(shear) / 31)) < 60  # chi-squared of 30 degrees


def test_fixmatch_draws_strengths_evenly_from_its_ranges():
    from scipy import stats

    given = parameters(V.strong().steps[2], 40_000)
    for name, (low, high) in {
        "Brightness": (0.05, 0.95),
        "Sharpness": (0.05, 0.95),
        "Rotate": (-30, 30),
        "MoveX": (-0.3, 0.3),
        "Solarise": (0, 1),
    }.items():
        found = given["amount"][given["action"] == ACTIONS.index(name)]
        assert stats.kstest(found.numpy(), "uniform", (low, high - low)).pvalue > 1e-3
    bits = given["amount"][given["action"] == ACTIONS.index("Posterise")]
    assert set(bits.tolist()) == {4, 5, 6, 7, 8}


def test_augmix_mixes_chains_by_dirichlet_and_beta_shares():
    from scipy import stats

    given = parameters(V.AugMix(), 20_000)
    share = given["share"]
    torch.testing.assert_close(share.sum(1), torch.ones(20_000))
    assert stats.kstest(share[:, 0].numpy(), "uniform").pvalue > 1e-3
    for k in range(1, 4):  # of Dirichlet(1, 1, 1) each share is Beta(1, 2)
        assert stats.kstest((share[:, k] / (1 - share[:, 0])).numpy(), stats.beta(1, 2).cdf).pvalue > 1e-3
    depth = (given["action"] > 0).sum(2)
    assert abs(float((depth == 1).double().mean()) - 1 / 3) < 0.01 and depth.min() == 1 and depth.max() == 3
    done = given["action"][given["action"] > 0]
    assert counts(done, {name: 1 / 9 for name in SPACES["augmix"]})
    turned = given["amount"][given["action"] == ACTIONS.index("Rotate")].abs()
    assert stats.kstest(turned.numpy(), "uniform", (0.3, 8.7)).pvalue > 1e-3


def test_augmix_is_the_mixture_of_its_chains():
    images = photos(3)
    given = parameters(V.AugMix(fill="zero"), 3)
    ours = V.AugMix(fill="zero").paint(images / 255, given)
    for i in range(3):
        want = given["share"][i, 0] * images[i] / 255
        for k in range(3):
            names = [ACTIONS[a] for a in given["action"][i, k]]
            chain = acted(images[i : i + 1], names, given["amount"][i, k])[0]
            want = want + given["share"][i, k + 1] * chain
        torch.testing.assert_close(ours[i], want, atol=1e-4, rtol=0)


def test_parameters_may_come_from_a_dictionary():
    images = photos(2)
    action = torch.tensor([[ACTIONS.index("Rotate")], [ACTIONS.index("Invert")]])
    given = {"action": action, "amount": torch.tensor([[90.0], [0.0]])}
    step = V.RandAugment(layers=1)
    x = step.paint(warp(images, step.place(given), 48, "zero"), given)
    torch.testing.assert_close(x[0], torch.rot90(images[0] / 255, 1, (1, 2)), atol=1e-3, rtol=0)
    torch.testing.assert_close(x[1], 1 - images[1] / 255, atol=1e-3, rtol=0)


def test_geometry_of_automatic_views_is_reported():
    step = V.RandAugment(fill="zero")
    images = photos(20)
    x, geometry = drawn(V.View((step,)), images)
    assert 0.3 < (geometry != torch.eye(3)).any(2).any(1).float().mean() < 0.9
    steps = engine.parameters(V.View((step,)), V.Draw(7, 0, 0, torch.arange(20)), torch.full((20, 2), 48), 48)
    torch.testing.assert_close(step.paint(warp(images, geometry, 48, "zero"), steps[0][1]), x)
