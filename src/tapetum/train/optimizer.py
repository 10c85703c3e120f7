"""Optimisers from timm and torch, their settings, and which parameter learns at which rate."""

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from tapetum.base.errors import TapetumError, unknown
from tapetum.base.torchvision_compat import timm
from tapetum.encoders.layers import layers
from tapetum.methods.method import Method
from tapetum.parts.schedule import Ramp, constant

NAMES = ("adamw", "sgd", "lars", "lamb", "muon")
RATES = {"adamw": 1e-3, "lamb": 5e-3, "muon": 5e-3, "sgd": 0.06, "lars": 0.5}  # for a batch of 256
CLIMB = 0.05  # share of training in which an encoder that has waited gets up to speed
DECAYS = {"adamw": 0.05, "lamb": 0.05, "muon": 0.05, "sgd": 5e-4, "lars": 1e-6}


@dataclass(frozen=True)
class OptimizerSettings:
    """The settings `optimizer.*`.

    Args:
        name: adamw, sgd (with Nesterov momentum), lars, lamb or muon.
        lr: peak learning rate for the whole batch; by default the optimiser's usual rate for a batch of 256,
            in proportion (square root of it for adamw, lamb and muon).
        weight_decay: decay of weights, by default the optimiser's usual one; norms, biases and what the
            encoder names never decay.
        momentum: of sgd, lars and muon.
        betas: of adamw and lamb.
        warmup: share of training during which the rate climbs from zero.
        final: share of the peak rate at which the cosine ends.
        clip: largest norm of the whole gradient; 0 turns clipping off.
        lr_scale: parameters by pattern that learn at a share of the rate, as `pattern=share;pattern=share`.
        layer_decay: each layer of the encoder learns at this share of the rate of the one behind it.
        frozen_layers: so many layers of the encoder, from the images on, do not learn; the stem is one.
        heads_first: share of training in which the encoder stands still and all else learns; by default 0.05
            where the run began with weights, else none.
    """

    name: Literal["adamw", "sgd", "lars", "lamb", "muon"] = "adamw"
    lr: float | None = None
    weight_decay: Ramp | None = None
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.1
    final: float = 0.0
    clip: float = 3.0
    lr_scale: str = ""
    layer_decay: float = 1.0
    frozen_layers: int = 0
    heads_first: float | None = None

    def __post_init__(self):
        if self.name not in NAMES:
            raise unknown("optimizer", self.name, NAMES)
        if self.weight_decay is None:
            object.__setattr__(self, "weight_decay", constant(DECAYS[self.name]))
        for name, low, high in (
            ("lr", 0, 1e6),
            ("momentum", 0, 1),
            ("warmup", 0, 1),
            ("final", 0, 1),
            ("clip", 0, 1e9),
            ("layer_decay", 0, 1),
            ("frozen_layers", 0, 1e9),
            ("heads_first", 0, 0.9),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise TapetumError(f"optimizer.{name} is {value}; it lies in [{low}, {high:g}].")

        if not all(0 <= beta < 1 for beta in self.betas):
            raise TapetumError(f"optimizer.betas is {self.betas}; both lie in [0, 1), below 1.")
        if self.name == "sgd" and not self.momentum:
            raise TapetumError("optimizer.momentum is 0; sgd is Nesterov's here and needs some, such as 0.9.")
        self.scales()

    def peak(self, batch_size: int) -> float:
        """The peak learning rate for a batch of this size."""
        if self.lr is not None:
            return self.lr
        ratio = batch_size / 256
        return RATES[self.name] * (ratio if self.name in ("sgd", "lars") else ratio**0.5)

    def rate(self, t: float, peak: float) -> float:
        """The learning rate at progress t: a linear climb, then a cosine down to `final`."""
        if t < self.warmup:
            return peak * t / self.warmup
        u = (t - self.warmup) / max(1 - self.warmup, 1e-9)
        return peak * Ramp(1.0, self.final)(u)

    def begun(self, t: float) -> float:
        """The encoder's share of the learning rate: none while only the heads learn, then a linear climb."""
        wait = self.heads_first or 0.0
        return 1.0 if not wait else min(max(t - wait, 0.0) / CLIMB, 1.0)

    def decay(self, t: float) -> float:
        """The decay of weights at progress t."""
        assert self.weight_decay is not None  # filled in above
        return self.weight_decay(t)

    def scales(self) -> list[tuple[str, float]]:
        """lr_scale as pairs."""
        pairs = [p.rpartition("=") for p in self.lr_scale.split(";") if p.strip()]
        try:
            found = [(re.compile(pattern.strip()).pattern, float(share)) for pattern, _, share in pairs]
            if not all(0 <= share <= 1000 for _, share in found):
                raise ValueError
            return found
        except (ValueError, re.error):
            raise TapetumError(
                f"optimizer.lr_scale is {self.lr_scale!r}; write `pattern=share;pattern=share`, "
                "shares from 0 on."
            ) from None


def groups(method: Method, settings: OptimizerSettings) -> list[dict]:
    """Parameter groups: one for each (rate, decay or not). What has less than two dimensions never decays."""
    spared = {f"encoder.{n}" for n in getattr(method.encoder, "no_weight_decay", set)()}
    scales, depth = settings.scales(), shares_by_depth(method.encoder, settings.layer_decay)
    found: dict[tuple, dict] = {}
    for name, p in method.named_parameters():
        if not p.requires_grad:
            continue
        scale = next((s for pattern, s in scales if re.search(pattern, name)), 1.0)
        scale *= depth.get(name, 1.0)
        follows = next((i for i, (pattern, _) in enumerate(method.rates) if re.search(pattern, name)), None)
        facts = {
            "scale": scale,
            "follows": follows,
            "decays": p.ndim > 1 and name not in spared,
            "waits": name.startswith("encoder.net."),  # a new blank token learns with the heads
        }
        found.setdefault(tuple(facts.values()), {"params": [], **facts})["params"].append(p)
    return list(found.values())


def shares_by_depth(encoder: nn.Module, decay: float) -> dict[str, float]:
    """The share of the rate at which each of an encoder's parameters learns, by its name in a method."""
    if decay == 1:
        return {}
    behind = enumerate(reversed(layers(encoder.net)))  # type: ignore[arg-type]
    return {f"encoder.net.{name}": decay**depth for depth, names in behind for name in names}


def build(method: Method, settings: OptimizerSettings, peak: float) -> torch.optim.Optimizer:
    """The optimiser over the method's learning parameters."""
    kwargs: dict = {"momentum": settings.momentum} if settings.name in ("sgd", "lars", "muon") else {}
    if settings.name in ("adamw", "lamb"):
        kwargs["betas"] = settings.betas
    if settings.name == "lamb":
        kwargs["max_grad_norm"] = None  # the loop clips; timm's LAMB would clip again
    parameter_groups = [g | {"weight_decay": 0.0} for g in groups(method, settings)]
    return timm.optim.create_optimizer_v2(
        parameter_groups, opt=settings.name, lr=peak, weight_decay=0.0, **kwargs
    )


def set_rates(
    optimizer: torch.optim.Optimizer, method: Method, settings: OptimizerSettings, peak: float, t: float
) -> None:
    """Give every group its learning rate and weight decay at progress t."""
    for group in optimizer.param_groups:
        follows = 1.0 if group["follows"] is None else method.rates[group["follows"]][1](t)
        begun = settings.begun(t) if group["waits"] else 1.0
        group["lr"] = settings.rate(t, peak) * group["scale"] * follows * begun
        group["weight_decay"] = settings.decay(t) if group["decays"] else 0.0
