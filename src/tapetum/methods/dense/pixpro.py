"""Positions agree, after spreading to similar ones, with a slow copy's at the same place. arXiv:2011.10043"""

from torch import nn

from tapetum import views
from tapetum.base.settings import Amount, Count, Positive
from tapetum.methods.method import Method
from tapetum.parts.dense import Maps, PixelPropagation, TwoHeads, agreement, convs, distances
from tapetum.parts.heads import mlp
from tapetum.parts.losses import across, cosine_distance
from tapetum.parts.schedule import Ramp, ShareRamp
from tapetum.parts.state import EMA


class PixPro(Method):
    """The loss is the paper's; the authors' code has twice as much.

    Args:
    hidden: width of the projectors' hidden layer.
    dim: width of what they give.
    near: up to how many diagonals of a position apart two positions are the same place.
    sharpness: the power of the similarity by which positions spread.
    momentum: how much of itself the teacher keeps at each step.
    instance: weight of the same loss over whole images, with a predictor of its own; 0 leaves it out.
    """

    needs = "maps"

    def __init__(
        self,
        encoder,
        *,
        hidden: Count = 2048,
        dim: Count = 256,
        near: Positive = 0.7,
        sharpness: Positive = 2.0,
        momentum: ShareRamp = Ramp(0.99, 1.0),
        instance: Amount = 0.0,
    ):
        super().__init__(encoder)
        self.views = {"views": views.byol_pair()}
        whole = mlp(encoder.dim, hidden, dim) if instance else nn.Identity()
        self.predictor = mlp(dim, hidden, dim) if instance else nn.Identity()
        self.projector = TwoHeads(whole, convs(encoder.dim, hidden, dim))
        self.propagate = PixelPropagation(dim, sharpness)
        self.teacher = EMA(Maps(encoder), self.projector)
        self.near, self.momentum, self.instance = near, momentum, instance

    def loss(self, batch, t):
        maps = [self.encoder.maps(x) for x in batch["views"]]
        heads, targets = [self.projector(m) for m in maps], [self.teacher(x) for x in batch["views"]]
        said = [self.propagate(dense) for _, _, dense in heads]  # 2 x [B, N, D]
        near = distances(*batch.geometry["views"], maps[0].shape[-1]).to(maps[0].device) < self.near
        pixels = agreement(said[0], targets[1][2], near) + agreement(said[1], targets[0][2], near.mT)
        if not self.instance:
            return {"loss": -pixels}
        said = [self.predictor(head[1]) for head in heads]
        whole = across(cosine_distance, said, [target[1] for target in targets])
        return {"loss": self.instance * whole - pixels, "pixels": -pixels, "instance": whole}

    def after_step(self, t, keep):
        self.teacher.follow(self.momentum(t), self.encoder, self.projector)
