"""Predict what a slow copy says of the same segment in the other view, unlike all others. arXiv:2103.10957"""

import torch

from tapetum import views
from tapetum.base.settings import Count, Positive
from tapetum.methods.method import Method
from tapetum.parts.dense import both_ways, pooled, shown
from tapetum.parts.heads import mlp
from tapetum.parts.schedule import Ramp, ShareRamp
from tapetum.parts.state import EMA


class DetConB(Method):
    """DetCon on BYOL. The segments are cells of a regular grid over the image, the
    paper's baseline, or superpixels in place of its graph-based segments.

    Args:
    hidden: width of the hidden layers of projector and predictor.
    dim: width of what they give.
    temperature: divides the cosine similarities.
    cells: of the grid, on each side of the image.
    superpixels: let the cells follow the colours of the image first.
    samples: how many segments of each view are drawn.
    momentum: how much of itself the teacher keeps at each step.
    """

    needs = "maps"

    def __init__(
        self,
        encoder,
        *,
        hidden: Count = 4096,
        dim: Count = 256,
        temperature: Positive = 0.1,
        cells: Count = 5,
        superpixels: bool = False,
        samples: Count = 16,
        momentum: ShareRamp = Ramp(0.996, 1.0),
    ):
        super().__init__(encoder)
        self.views = {"views": views.byol_pair()}
        if superpixels:
            self.views["whole"] = views.crop_only(0.25)
        self.projector = mlp(encoder.dim, hidden, dim)
        self.predictor = mlp(dim, hidden, dim)
        self.teacher = EMA(encoder, self.projector)
        self.temperature, self.cells, self.samples = temperature, cells, samples
        self.momentum = momentum

    def loss(self, batch, t):
        maps = [self.encoder.maps(x) for x in batch["views"]]  # 2 x [B, D, H, W]
        ids, shares = zip(*shown(batch, maps, self.cells, self.samples))
        z = [self.projector(pooled(m, share)) for m, share in zip(maps, shares)]  # 2 x [B*M, D]
        said = [self.predictor(x) for x in z]
        target = [self.taught(x, share) for x, share in zip(batch["views"], shares)]
        return {"loss": both_ways(said, target, ids, self.temperature)}

    @torch.no_grad()
    def taught(self, x, shares):
        encoder, projector = self.teacher.chain
        return projector(pooled(encoder.maps(x), shares))  # [B*M, D]

    def after_step(self, t, keep):
        self.teacher.follow(self.momentum(t), self.encoder, self.projector)
