"""Segments of the image attract themselves in the other view and repel all others. arXiv:2103.10957"""

from tapetum import views
from tapetum.base.settings import Count, Positive
from tapetum.methods.method import Method
from tapetum.parts.dense import both_ways, pooled, shown
from tapetum.parts.heads import mlp


class DetCon(Method):
    """DetCon-S, on SimCLR. The segments are cells of a regular grid over the image, the
    paper's baseline, or superpixels in place of its graph-based segments.

    Args:
    hidden: width of the projector's hidden layer.
    dim: width of what the projector gives.
    temperature: divides the cosine similarities.
    cells: of the grid, on each side of the image.
    superpixels: let the cells follow the colours of the image first.
    samples: how many segments of each view are drawn.
    """

    needs = "maps"

    def __init__(
        self,
        encoder,
        *,
        hidden: Count = 2048,
        dim: Count = 128,
        temperature: Positive = 0.1,
        cells: Count = 5,
        superpixels: bool = False,
        samples: Count = 16,
    ):
        super().__init__(encoder)
        self.views = {"views": 2 * [views.simclr()]}
        if superpixels:
            self.views["whole"] = views.crop_only(0.25)
        self.projector = mlp(encoder.dim, hidden, dim)
        self.temperature, self.cells, self.samples = temperature, cells, samples

    def loss(self, batch, t):
        maps = [self.encoder.maps(x) for x in batch["views"]]  # 2 x [B, D, H, W]
        ids, shares = zip(*shown(batch, maps, self.cells, self.samples))
        z = [self.projector(pooled(m, share)) for m, share in zip(maps, shares)]  # 2 x [B*M, D]
        return {"loss": both_ways(z, z, ids, self.temperature)}
