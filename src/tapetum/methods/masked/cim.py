"""Find pieces cut out of an image, turned and recoloured, in what a slow copy sees of it. arXiv:2303.12670"""

import torch
from torch.nn import functional as F

from tapetum import views
from tapetum.base.settings import Count, Share
from tapetum.methods.method import Method
from tapetum.parts.correlate import Correlation
from tapetum.parts.losses import precise
from tapetum.parts.schedule import Ramp, ShareRamp
from tapetum.parts.sparse import probed
from tapetum.parts.state import EMA
from tapetum.views import carry


class CIM(Method):
    """Pieces are cut out of the whole image, so that one may reach beyond the context; the paper cuts them
    out of the context. There the context has 160 pixels and the evaluated image 224; here both have the run's
    image size.

    Args:
        pieces: number of pieces of each image (exemplars).
        size: side of a piece, a share of the image's.
        degrees: how far pieces are turned at most, either way.
        width: width of the cross-attention, a multiple of 32.
        momentum: how much of itself the teacher keeps at each step.
    """

    needs = "maps"

    def __init__(
        self,
        encoder,
        *,
        pieces: Count = 6,
        size: Share = 0.4,
        degrees: float = 45.0,
        width: Count = 512,
        momentum: ShareRamp = Ramp(0.99, 1.0),
    ):
        super().__init__(encoder)
        encoder.pool_patches()
        piece = (
            views.Rotate((-degrees, degrees)) + views.Crop(size, (0.05, 0.48), (1 / 3, 3.0)) + views.Flip()
        )
        piece = piece + views.Jitter(0.4, 0.4, 0.2, 0.1) + views.Gray() + views.Blur() + views.Solarise(0.2)
        self.views = {"context": views.Crop(scale=(0.5, 1.0)) + views.Flip(), "pieces": pieces * [piece]}
        dim, grid, _ = probed(encoder)[0]
        self.correlation = Correlation(dim, grid, width)
        self.teacher = EMA(encoder)
        self.momentum = momentum

    def loss(self, batch, t):
        x, pieces = batch["context"], batch["pieces"]
        context = self.teacher.chain[0].maps(x).repeat(len(pieces), 1, 1, 1)  # [K * B, D, G, G]
        said = self.correlation(context, self.encoder.maps(torch.cat(pieces)), x.shape[-1])  # [K * B, S, S]
        geometry = batch.geometry["context"]
        geometry = geometry.to(x.device) if isinstance(geometry, torch.Tensor) else geometry
        places = carry.places(geometry, x.shape[-1]).flatten(2).mT  # [B, S * S, 2]
        inside = [carry.points(places, g)[1] for g in batch.geometry["pieces"]]  # K x [B, S * S] bool
        true = torch.cat(inside).view_as(said).to(said)
        return {"loss": precise(F.binary_cross_entropy_with_logits)(said, true)}

    def after_step(self, t, keep):
        self.teacher.follow(self.momentum(t), self.encoder)
