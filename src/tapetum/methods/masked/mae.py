"""Paint the pixels of hidden patches from the few that are shown. arXiv:2111.06377"""

from torch.nn import functional as F

from tapetum import views
from tapetum.base.settings import Count, Share
from tapetum.methods.method import Method
from tapetum.parts.losses import squared_error
from tapetum.parts.masks import split, take
from tapetum.parts.predictors import TokenPredictor, patchify


class MAE(Method):
    """Args:
    hidden: share of the patches that are hidden.
    width: width of the decoder.
    depth: number of the decoder's blocks.
    normalise: whether each hidden patch is painted relative to its own mean and spread.
    """

    needs = "tokens"

    def __init__(
        self, encoder, *, hidden: Share = 0.75, width: Count = 512, depth: Count = 8, normalise: bool = True
    ):
        super().__init__(encoder)
        self.views = {"x": views.mae()}
        out = encoder.spec.form.channels * encoder.patch**2
        self.decoder = TokenPredictor(encoder.dim, encoder.grid, width, depth, out=out)
        self.hidden, self.normalise = hidden, normalise

    def loss(self, batch, t):
        x, grid = batch["x"], self.encoder.grid
        keep, hide = split(batch.random("mask", (grid**2,)), self.hidden)
        painted = self.decoder(self.encoder.tokens(x, keep=keep), keep, hide)  # [B, M, C*p*p]
        target = take(patchify(x, self.encoder.patch), hide)
        if self.normalise:
            target = F.layer_norm(target, target.shape[-1:], eps=1e-6)
        return {"loss": squared_error(painted, target)}
