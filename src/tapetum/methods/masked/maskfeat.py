"""Name the directions of edges in hidden patches, or what a given network sees there. arXiv:2112.09133"""

import torch
from torch import nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Share
from tapetum.encoders.encoder import Encoder
from tapetum.methods.method import Method
from tapetum.parts.blocks import blocks
from tapetum.parts.hog import hog
from tapetum.parts.losses import over_hidden
from tapetum.parts.predictors import patchify
from tapetum.parts.sparse import probed
from tapetum.parts.state import Frozen


class MaskFeat(Method):
    """Args:
    hidden: share of the patches that are hidden, in blocks.
    bins: directions between 0 and 180 degrees.
    cells: histograms on each side of a patch; two make the paper's 8 pixels of a patch of 16.
    teacher: a network whose features are the target in place of histograms.
    """

    needs = "tokens"

    def __init__(
        self,
        encoder,
        *,
        hidden: Share = 0.4,
        bins: Count = 9,
        cells: Count = 2,
        teacher: Encoder | None = None,
    ):
        super().__init__(encoder)
        encoder.pool_patches()
        if teacher is None and encoder.patch % cells:
            raise TapetumError(f"method.cells is {cells}; it must divide the patch, {encoder.patch} pixels.")
        self.views = {"x": views.Crop(scale=(0.5, 1.0)) + views.Flip()}
        encoder.add_blank()
        self.hidden, self.bins, self.cells = hidden, bins, cells
        self.teacher = Frozen(teacher) if teacher else None
        self.error = apart if teacher else F.mse_loss
        out = probed(teacher)[0][0] if teacher else encoder.spec.form.channels * bins * cells**2
        self.head = nn.Linear(encoder.dim, out)

    def loss(self, batch, t):
        x = batch["x"]
        hide = blocks(batch, self.encoder.grid, self.hidden)  # [B, N]
        said = self.head(self.encoder.tokens(x, hide=hide)[hide])  # [R, K]
        return {"loss": over_hidden(self.error, said, self.target(x)[hide], hide)}

    @torch.no_grad()
    def target(self, x):
        """What is to be said of each patch: [B, N, K]."""
        if self.teacher is None:
            return patchify(hog(x, self.encoder.patch // self.cells, self.bins).flatten(1, 2), self.cells)
        seen = self.teacher.module.maps(x)  # [B, K, H, W]
        if seen.shape[-1] != self.encoder.grid:
            seen = F.interpolate(seen, 2 * (self.encoder.grid,), mode="bilinear", antialias=True)
        return seen.flatten(2).mT


def apart(said, target, reduction):
    """Squared distances of unit vectors: [R, K] -> [R]."""
    return 2 - 2 * F.cosine_similarity(said, target)
