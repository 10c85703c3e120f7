"""Hide large squares behind blanks and paint their pixels with one linear layer. arXiv:2111.09886"""

from torch import nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Share
from tapetum.methods.method import Method
from tapetum.parts.losses import over_hidden
from tapetum.parts.masks import coarse
from tapetum.parts.painting import painting
from tapetum.parts.predictors import patchify


class SimMIM(Method):
    """Args:
    hidden: share of the squares that are hidden.
    unit: side of a square in patches; the paper's 32 pixels are two patches of 16.
    """

    needs = "tokens"

    def __init__(self, encoder, *, hidden: Share = 0.6, unit: Count = 2):
        super().__init__(encoder)
        if unit >= encoder.grid:
            raise TapetumError(
                f"method.unit is {unit}; it must be less than {encoder.grid}, the encoder's patches a side."
            )
        encoder.pool_patches()
        self.views = {"x": views.Crop(scale=(0.67, 1.0)) + views.Flip()}
        encoder.add_blank()
        self.head = nn.Linear(encoder.dim, encoder.spec.form.channels * encoder.patch**2)
        self.hidden, self.unit = hidden, unit

    def mask(self, batch):
        side = -(-self.encoder.grid // self.unit)
        return coarse(batch.random("mask", (side**2,)), self.encoder.grid, self.unit, self.hidden)

    def loss(self, batch, t):
        x, hide = batch["x"], self.mask(batch)  # [B, N]
        painted = self.head(self.encoder.tokens(x, hide=hide)[hide])  # [R, C*p*p]
        return {"loss": over_hidden(F.l1_loss, painted, patchify(x, self.encoder.patch)[hide], hide)}

    def paint(self, batch):
        x, hide = batch["x"], self.mask(batch)
        return painting(x, self.head(self.encoder.tokens(x, hide=hide)), hide, self.encoder.patch)
