"""Say of hidden patches what a slow copy's upper layers, seeing all, say of them. arXiv:2202.03555"""

from functools import partial

from torch import nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base.settings import Count, Positive, Share
from tapetum.methods.method import Method
from tapetum.parts.blocks import blocks
from tapetum.parts.losses import over_hidden
from tapetum.parts.schedule import ShareRamp, constant
from tapetum.parts.state import EMA
from tapetum.parts.targets import block_outputs, normed


class Data2Vec(Method):
    """Args:
    hidden: share of the patches that are hidden, in blocks.
    layers: how many of the teacher's last blocks are averaged.
    beta: the error up to which the loss is squared, beyond which it is absolute.
    momentum: how much of itself the teacher keeps at each step.
    """

    needs = "tokens"

    def __init__(
        self,
        encoder,
        *,
        hidden: Share = 0.6,
        layers: Count = 6,
        beta: Positive = 2.0,
        momentum: ShareRamp = constant(0.9998),
    ):
        super().__init__(encoder)
        encoder.pool_patches()
        self.views = {"x": views.Crop() + views.Flip() + views.Jitter(0.4, 0.4, 0.4, 0.0, p=1.0)}
        encoder.add_blank()
        self.head = nn.Linear(encoder.dim, encoder.dim)
        self.teacher = EMA(encoder)
        self.error = partial(F.smooth_l1_loss, beta=beta)
        self.hidden, self.layers, self.momentum = hidden, layers, momentum

    def loss(self, batch, t):
        x = batch["x"]
        hide = blocks(batch, self.encoder.grid, self.hidden)  # [B, N]
        said = self.head(self.encoder.tokens(x, hide=hide)[hide])  # [R, D]
        target = normed(block_outputs(self.teacher.chain[0], x, self.layers)).mean(0)  # [B, N, D]
        return {"loss": over_hidden(self.error, said, target[hide], hide)}

    def after_step(self, t, keep):
        self.teacher.follow(self.momentum(t), self.encoder)

    def product(self):
        return self.teacher.chain[0]
