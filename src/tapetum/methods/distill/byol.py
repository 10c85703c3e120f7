"""Predict, from one view, what a slow copy of the network says about the other. arXiv:2006.07733"""

from tapetum import views
from tapetum.base.settings import Count
from tapetum.methods.method import Method
from tapetum.parts.heads import mlp
from tapetum.parts.losses import across, cosine_distance
from tapetum.parts.schedule import Ramp, ShareRamp
from tapetum.parts.state import EMA


class BYOL(Method):
    """The loss is the mean of both directions, half of the paper's sum.

    Args:
    hidden: width of the hidden layers of projector and predictor.
    dim: width of what they give.
    momentum: how much of itself the teacher keeps at each step.
    """

    def __init__(
        self, encoder, *, hidden: Count = 4096, dim: Count = 256, momentum: ShareRamp = Ramp(0.996, 1.0)
    ):
        super().__init__(encoder)
        self.views = {"views": views.byol_pair()}
        self.projector = mlp(encoder.dim, hidden, dim)
        self.predictor = mlp(dim, hidden, dim)
        self.teacher = EMA(encoder, self.projector)
        self.momentum = momentum

    def loss(self, batch, t):
        said = [self.predictor(self.projector(self.encoder(x))) for x in batch["views"]]  # 2 x [B, D]
        target = [self.teacher(x) for x in batch["views"]]
        return {"loss": across(cosine_distance, said, target)}

    def after_step(self, t, keep):
        self.teacher.follow(self.momentum(t), self.encoder, self.projector)
