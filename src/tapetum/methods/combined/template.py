"""Policy, predictor, teacher and loss as slots: SimCLR, BYOL, SimSiam, VICReg or between. arXiv:2403.05726"""

from typing import Literal

import torch
from torch import nn

from tapetum import views
from tapetum.base.settings import Amount, Count, Positive
from tapetum.methods.method import Method
from tapetum.parts.decorrelation import barlow_twins, vicreg
from tapetum.parts.heads import mlp
from tapetum.parts.losses import across, cosine_distance, nt_xent
from tapetum.parts.schedule import Ramp, ShareRamp
from tapetum.parts.state import EMA

POLICIES = {
    "simclr": lambda: 2 * [views.simclr()],
    "byol": views.byol_pair,
    "vicreg": lambda: 2 * [views.byol(blur=0.5, solarise=0.1)],
    "moco_v2": lambda: 2 * [views.moco_v2()],
    "crop": lambda: 2 * [views.light()],
}


class Template(Method):
    """Args:
    policy: whose views; crop is crop and flip alone.
    loss: what compares what is said of one view with the target, which is of the other; cosine is its
        negative, distance that of unit vectors, squared.
    predictor: what guesses the target: none, or an mlp.
    teacher: who gives the target: none (the network itself), stop (itself, without gradient) or ema (a slow
        copy).
    together: whether batch norms see both views as one batch, as SimCLR's, or each by itself.
    layers: of the projector.
    last_norm: whether a norm follows its last layer.
    hidden: width of its hidden layers.
    dim: width of what it gives.
    width: width of the predictor's hidden layer.
    temperature: of nt_xent.
    redundancy: weight of barlow_twins' correlations between different features.
    weights: of vicreg's invariance, variance and covariance.
    momentum: how much of itself the ema teacher keeps at each step.
    """

    def __init__(
        self,
        encoder,
        *,
        policy: Literal["simclr", "byol", "vicreg", "moco_v2", "crop"] = "simclr",
        loss: Literal["nt_xent", "cosine", "distance", "vicreg", "barlow_twins"] = "nt_xent",
        predictor: Literal["none", "mlp"] = "none",
        teacher: Literal["none", "stop", "ema"] = "none",
        together: bool = True,
        layers: Literal[2, 3] = 2,
        last_norm: bool = True,
        hidden: Count = 2048,
        dim: Count = 128,
        width: Count = 512,
        temperature: Positive = 0.1,
        redundancy: Amount = 0.005,
        weights: tuple[Amount, Amount, Amount] = (25.0, 25.0, 1.0),
        momentum: ShareRamp = Ramp(0.996, 1.0),
    ):
        super().__init__(encoder)
        self.views = {"views": POLICIES[policy]()}
        self.projector = mlp(encoder.dim, *(layers - 1) * [hidden], dim, last_norm=last_norm)
        self.predictor = mlp(dim, width, dim) if predictor == "mlp" else nn.Identity()
        self.teacher = EMA(encoder, self.projector) if teacher == "ema" else None
        self.compared, self.stop, self.together = loss, teacher == "stop", together
        self.temperature, self.momentum = temperature, momentum
        self.pairwise = {
            "cosine": lambda a, b: cosine_distance(a, b) / 2 - 1,
            "distance": cosine_distance,
            "vicreg": lambda a, b: vicreg(a, b, weights),
            "barlow_twins": lambda a, b: barlow_twins(a, b, redundancy),
        }

    def loss(self, batch, t):
        z = self.of_both(lambda x: self.projector(self.encoder(x)), batch["views"])  # 2 x [B, D]
        said = self.of_both(self.predictor, z)
        target = self.of_both(self.teacher, batch["views"]) if self.teacher else z
        target = [x.detach() if self.stop else x for x in target]
        if self.compared != "nt_xent":
            return {"loss": across(self.pairwise[self.compared], said, target)}
        ids = batch["index"].repeat(2)
        return {"loss": nt_xent(torch.cat(said), ids, self.temperature, torch.cat(target))}

    def of_both(self, network, pair):
        return network(torch.cat(pair)).chunk(2) if self.together else [network(x) for x in pair]

    def after_step(self, t, keep):
        if self.teacher:
            self.teacher.follow(self.momentum(t), self.encoder, self.projector)
