"""Automatic augmentation: operations chosen for each image, at a strength on one scale.

All of it is one mechanism: which actions happen to an image, and by what amount, are parameters ("action" and
"amount", [B, L]); AutoAugment, RandAugment, TrivialAugment and AugMix differ in how they draw them.
Learnt and searched policies hand over their own.

The actions that move pixels are composed and sampled once, before the colours change: an image that would be
inverted and then turned is turned and then inverted. Only what comes in from outside looks different.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from tapetum.base.settings import Count, Whole
from tapetum.views.colour import Brightness, Contrast, Saturation, Solarise
from tapetum.views.filters import Sharpness
from tapetum.views.operation import Fill, Operation, Painting, Parameters, between, on_device, where, wide
from tapetum.views.sample import warp
from tapetum.views.subpolicies import SUBPOLICIES
from tapetum.views.tones import AutoContrast, Equalise, Invert, Posterise
from tapetum.views.turning import about_middle, turned


def moved(x: Tensor | float, y: Tensor | float, like: Tensor) -> Tensor:
    """The transforms [B, 3, 3] that move a view by (x, y) of its side."""
    one, zero = torch.ones_like(like), torch.zeros_like(like)
    return about_middle(one, zero, zero, one, x, y)


def sheared(x: Tensor, y: Tensor) -> Tensor:
    """The transforms [B, 3, 3] that shear a view about its top left corner."""
    one = torch.ones_like(x)
    return about_middle(one, x, y, one, -x / 2, -y / 2)


# amounts: the tangent of shears, shares of the side, degrees
MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "ShearX": lambda by: sheared(by, 0 * by),
    "ShearY": lambda by: sheared(0 * by, by),
    "MoveX": lambda by: moved(by, 0.0, by),
    "MoveY": lambda by: moved(0.0, by, by),
    "Rotate": turned,
}
# amounts: what the operation calls its parameter
PAINTS: dict[str, tuple[Painting, str]] = {
    "Brightness": (Brightness(), "factor"),
    "Saturation": (Saturation(), "factor"),
    "Contrast": (Contrast(), "factor"),
    "Sharpness": (Sharpness(), "factor"),
    "Posterise": (Posterise(), "bits"),
    "Solarise": (Solarise(), "threshold"),
    "AutoContrast": (AutoContrast(), ""),
    "Equalise": (Equalise(), ""),
    "Invert": (Invert(), ""),
}
ACTIONS = ("Identity", *MOVES, *PAINTS)  # an action's number is its place here

# The amount of an action at strength t in [0, 1] is start + t * reach; reach has a random sign if signed.
Space = dict[str, tuple[float, float, bool]]
_SAME: Space = {"Identity": (0, 0, False), "AutoContrast": (0, 0, False), "Equalise": (0, 0, False)}


def space(shear: float, move: float, turn: float, factor: float, bits: tuple[int, int]) -> Space:
    """What the published spaces of actions have in common."""
    signed = {"ShearX": shear, "ShearY": shear, "MoveX": move, "MoveY": move, "Rotate": turn}
    factors = {name: (1, factor, True) for name in ("Brightness", "Saturation", "Contrast", "Sharpness")}
    tones = {"Posterise": (bits[0], bits[1] - bits[0], False), "Solarise": (1, -1, False)}
    return _SAME | {name: (0, by, True) for name, by in signed.items()} | (factors if factor else {}) | tones


def fixmatch() -> Space:
    """FixMatch's: colours are only ever weakened."""
    found = space(0.3, 0.3, 30, 0, (8, 4))
    return found | {
        name: (0.05, 0.9, False) for name in ("Brightness", "Saturation", "Contrast", "Sharpness")
    }


SPACES = {
    "standard": space(0.3, 150 / 331, 30, 0.9, (8, 4)),  # AutoAugment's and RandAugment's
    "wide": space(0.99, 32 / 224, 135, 0.99, (8, 2)),  # TrivialAugment's
    "augmix": {n: v for n, v in space(0.3, 1 / 3, 30, 0, (4, 0)).items() if n != "Identity"},
    "fixmatch": fixmatch(),
}


def amounts(space: Space, action: Tensor, strength: Tensor, negative: Tensor) -> Tensor:
    """Amounts of actions (numbers in ACTIONS, any shape) at strengths in [0, 1]; `negative` gives the
    sign."""
    table = torch.tensor([space.get(name, (0, 0, False)) for name in ACTIONS], dtype=torch.float32)
    start, reach, signed = table[action].unbind(-1)
    amount = start + torch.where((signed > 0) & negative, -reach, reach) * strength
    return torch.where(action == ACTIONS.index("Posterise"), amount.round(), amount)


def chosen(space: Space, u: Tensor) -> Tensor:
    """Numbers in [0, 1) -> actions of a space, each as likely."""
    return torch.tensor([ACTIONS.index(name) for name in space])[(u * len(space)).long()]


def compose(action: Tensor, amount: Tensor) -> Tensor:
    """The transforms [B, 3, 3] of the actions [B, L] that move pixels, done one after the other."""
    geometry = torch.eye(3, device=amount.device).repeat(len(action), 1, 1)
    for which, by in zip(action.unbind(1), amount.unbind(1)):
        one = torch.eye(3, device=amount.device).expand_as(geometry)
        for name, move in MOVES.items():
            one = where(which == ACTIONS.index(name), move(by), one)
        geometry = geometry @ one
    return geometry


def paint(x: Tensor, action: Tensor, amount: Tensor) -> Tensor:
    """Pixels after the actions [B, L] that colour them, one after the other."""
    for which, by in zip(action.unbind(1), amount.unbind(1)):
        for name, (step, parameter) in PAINTS.items():
            x = step.paint(x, {"on": which == ACTIONS.index(name), parameter: by})
    return x


class Automatic(Operation):
    """Does the actions that each image is given: "action" and "amount" [B, L]."""

    TURNS: ClassVar[bool] = True
    fill: Fill

    def place(self, given: Parameters) -> Tensor | None:
        return compose(given["action"], given["amount"])

    def paint(self, x: Tensor, given: Parameters) -> Tensor:
        return paint(x, given["action"], given["amount"])


@dataclass(frozen=True)
class AutoAugment(Automatic):
    """One of the 25 published pairs of actions, each action with its own probability and strength, found by a
    search on the data set that `policy` names. arXiv:1805.09501"""

    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"
    fill: Fill = "mirror"
    SLOTS: ClassVar[int] = 5

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """action, amount [B, 2]"""
        table = SUBPOLICIES[self.policy]
        row = (u[:, 0] * len(table)).long()
        action = torch.tensor([[ACTIONS.index(name) for name, _, _ in pair] for pair in table])[row]  # [B, 2]
        p, level = torch.tensor([[(p, level) for _, p, level in pair] for pair in table])[row].unbind(-1)
        amount = amounts(SPACES["standard"], action, level / 9, u[:, 3:5] < 0.5)
        return {"action": action * (u[:, 1:3] < p), "amount": amount}


@dataclass(frozen=True)
class RandAugment(Automatic):
    """`layers` actions of 14, each as likely, all of one strength. arXiv:1909.13719

    Args:
        layers: how many, one after the other.
        magnitude: their strength, drawn from this range, of 30; the paper has one number, so both ends alike.
        space: "standard", TrivialAugment's "wide", or FixMatch's, whose paper draws strengths from 0 to 30.
        fill: what lies outside of the image.
    """

    layers: Count = 2
    magnitude: tuple[Annotated[float, 0, 30], Annotated[float, 0, 30]] = (9.0, 9.0)
    space: Literal["standard", "wide", "fixmatch"] = "standard"
    fill: Fill = "mirror"
    SLOTS: ClassVar[int] = 1

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "SLOTS", 3 * self.layers)

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """action, amount [B, layers]"""
        which, sign, strength = u.view(len(u), 3, self.layers).unbind(1)
        action = chosen(SPACES[self.space], which)
        strength = between(strength, *self.magnitude) / 30
        return {"action": action, "amount": amounts(SPACES[self.space], action, strength, sign < 0.5)}


@dataclass(frozen=True)
class TrivialAugment(Automatic):
    """One action of 14, at one of 31 strengths, each as likely, over wide ranges. arXiv:2103.10158

    It moves images by up to 32 pixels of a 224-pixel view, else in proportion.
    """

    fill: Fill = "mirror"
    SLOTS: ClassVar[int] = 3

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """action, amount [B, 1]"""
        action = chosen(SPACES["wide"], u[:, :1])
        strength = (u[:, 1:2] * 31).floor() / 30
        return {"action": action, "amount": amounts(SPACES["wide"], action, strength, u[:, 2:] < 0.5)}


@dataclass(frozen=True)
class AugMix(Automatic):
    """Mix the image with `width` chains of actions of it, with even shares (Dirichlet's and Beta's parameters
    are 1, as published). arXiv:1912.02781

    A chain moves pixels within the view; a view's geometry says nothing of it.

    Args:
        severity: of 10; each action's strength is drawn between 0.1 and it.
        width: number of chains.
        depth: number of actions in a chain; 0 draws 1, 2 or 3.
        fill: what lies outside of the image.
    """

    severity: Annotated[float, 0.1, 10] = 3.0
    width: Count = 3
    depth: Whole = 0
    fill: Fill = "mirror"
    SLOTS: ClassVar[int] = 1

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "SLOTS", 1 + self.width * (2 + 3 * (self.depth or 3)))

    def draw(self, u: Tensor, size: Tensor, side: int) -> Parameters:
        """action, amount [B, width, depth]; share [B, width + 1] of the image itself and of each chain"""
        depth = self.depth or 3
        own, u = u[:, :1], u[:, 1:].view(len(u), self.width, -1)
        which, sign, strength = u[:, :, 2:].view(len(u), self.width, 3, depth).unbind(2)
        long = torch.arange(depth) < (self.depth or (1 + 3 * u[:, :, :1]).long())  # [B, width, depth]
        action = chosen(SPACES["augmix"], which)
        strength = between(strength, 0.1, self.severity) / 10
        amount = amounts(SPACES["augmix"], action, strength, sign < 0.5)
        even = -(1 - u[:, :, 1]).log()  # normalised exponentials are Dirichlet's with parameter 1
        mixed = (1 - own) * even / even.sum(1, keepdim=True).clamp(min=1e-12)
        return {"action": action * long, "amount": amount, "share": torch.cat([own, mixed], 1)}

    def place(self, given: Parameters) -> None:
        return None

    def paint(self, x: Tensor, given: Parameters) -> Tensor:
        share = on_device(given, x)["share"]
        mixed = x * wide(share[:, 0])
        for k, (action, amount) in enumerate(zip(given["action"].unbind(1), given["amount"].unbind(1)), 1):
            chain = warp(x, compose(action, amount), x.shape[-1], self.fill)
            mixed = mixed + paint(chain, action, amount) * wide(share[:, k])
        return mixed.clamp(0, 1)
