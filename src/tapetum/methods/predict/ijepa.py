"""Predict the features of blocks of an image, as a slow copy sees them, from the rest. arXiv:2301.08243"""

from torch.nn import functional as F

from tapetum import views
from tapetum.base.settings import Count, Positive, Share
from tapetum.methods.method import Method
from tapetum.parts.jepa_masks import context, target_blocks
from tapetum.parts.losses import precise, squared_error
from tapetum.parts.masks import take
from tapetum.parts.predictors import TokenPredictor
from tapetum.parts.schedule import Ramp, ShareRamp
from tapetum.parts.state import EMA
from tapetum.parts.targets import normed


class IJEPA(Method):
    """The teacher's features are layer-normalised, as in the authors' code.

    Args:
        targets: number of blocks to predict; fewer where they would leave nothing.
        scale: a block's share of the image's area, from and to.
        ratio: a block's height over its width, from and to.
        context: the same share of the block that they are predicted from, without them.
        width: width of the predictor.
        depth: number of the predictor's blocks; the paper has 12 for ViT-L and larger.
        smooth: the authors' code has a smooth L1 distance, the paper a squared one.
        momentum: how much of itself the teacher keeps at each step.
    """

    needs = "tokens"

    def __init__(
        self,
        encoder,
        *,
        targets: Count = 4,
        scale: tuple[Share, Share] = (0.15, 0.2),
        ratio: tuple[Positive, Positive] = (0.75, 1.5),
        context: tuple[Share, Share] = (0.85, 1.0),
        width: Count = 384,
        depth: Count = 6,
        smooth: bool = False,
        momentum: ShareRamp = Ramp(0.996, 1.0, shape="linear"),
    ):
        super().__init__(encoder)
        encoder.pool_patches()
        self.views = {"x": views.Crop(scale=(0.3, 1.0))}
        self.predictor = TokenPredictor(encoder.dim, encoder.grid, width, depth, out=encoder.dim)
        self.teacher = EMA(encoder)
        self.targets, self.scale, self.ratio, self.context = targets, scale, ratio, context
        self.distance = precise(F.smooth_l1_loss) if smooth else squared_error
        self.momentum = momentum

    def loss(self, batch, t):
        x, grid = batch["x"], self.encoder.grid
        wanted = target_blocks(batch, grid, self.targets, self.scale, self.ratio)  # [B, M, L]
        keep = context(batch, wanted, grid, self.context)  # [B, K]
        seen = self.encoder.tokens(x, keep=keep)
        seen, keep = (part.repeat_interleave(wanted.shape[1], 0) for part in (seen, keep))
        said = self.predictor(seen, keep, wanted.flatten(0, 1))  # [B * M, L, D], each block by itself
        target = self.teacher.chain[0].tokens(x)  # [B, N, D]
        target = take(normed(target), wanted.flatten(1))
        return {"loss": self.distance(said, target.view_as(said))}

    def after_step(self, t, keep):
        self.teacher.follow(self.momentum(t), self.encoder)

    def product(self):
        return self.teacher.chain[0]
