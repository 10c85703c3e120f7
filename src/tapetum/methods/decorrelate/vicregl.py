"""VICReg of whole images, and of places matched by where they lie and what they show. arXiv:2210.01571"""

import torch

from tapetum import views
from tapetum.base.settings import Amount, Count, Share
from tapetum.methods.method import Method
from tapetum.parts.decorrelation import local_vicreg, vicreg
from tapetum.parts.dense import columns
from tapetum.parts.heads import mlp
from tapetum.views.carry import places


class VICRegL(Method):
    """Args:
    hidden: width of the hidden layers of the projector of whole images.
    dim: width of what it gives.
    width: width of the projector of places.
    whole: share of whole images in the loss; places have the rest.
    matched: share of the places that are matched, those with the nearest match.
    invariance: weight of the mean squared difference of the views.
    variance: weight of what each view's deviations lack to 1.
    covariance: weight of each view's squared covariances; 12.5 and 0.5 are 25 and 1 of the authors' code.
    """

    needs = "maps"

    def __init__(
        self,
        encoder,
        *,
        hidden: Count = 8192,
        dim: Count = 8192,
        width: Count = 512,
        whole: Share = 0.75,
        matched: Share = 0.4,
        invariance: Amount = 25.0,
        variance: Amount = 25.0,
        covariance: Amount = 1.0,
    ):
        super().__init__(encoder)
        self.views = {"views": 2 * [views.byol(blur=0.5, solarise=0.1)]}
        self.projector = mlp(encoder.dim, hidden, hidden, dim)
        self.local = mlp(encoder.dim, width, width, width)
        self.whole, self.matched, self.weights = whole, matched, (invariance, variance, covariance)

    def loss(self, batch, t):
        seen = [self.encoder.features(x) for x in batch["views"]]
        whole = vicreg(*(self.projector(f.vector) for f in seen), self.weights)
        cells = [columns(f.maps) if f.tokens is None else f.tokens for f in seen]  # 2 x [B, N, D]
        z = [self.local(x.flatten(0, 1)).unflatten(0, x.shape[:2]) for x in cells]
        count, device = cells[0].shape[1], cells[0].device
        there = [places(g, round(count**0.5)).to(device) for g in batch.geometry["views"]]
        at = [columns(xy) for xy in there]  # 2 x [B, N, 2]
        matched = max(1, round(self.matched * count))
        apart = torch.cdist(*at, compute_mode="donot_use_mm_for_euclid_dist")  # [B, N, N]
        unlike = torch.cdist(*(x.detach().float() for x in z))
        by_place = local_vicreg(*z, apart, matched, self.weights)
        by_look = local_vicreg(*z, unlike, matched, self.weights)
        loss = self.whole * whole + (1 - self.whole) * (by_place + by_look)
        return {"loss": loss, "whole": whole, "by_place": by_place, "by_look": by_look}
