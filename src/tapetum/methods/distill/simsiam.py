"""Predict one view from the other; a stopped gradient alone prevents the collapse. arXiv:2011.10566"""

from tapetum import views
from tapetum.base.settings import Count
from tapetum.methods.method import Method
from tapetum.parts.heads import mlp
from tapetum.parts.losses import across, cosine_distance


class SimSiam(Method):
    """The predictor's rate falls as the others do; the authors' command keeps it (68.1% for 67.7%).

    Args:
    hidden: width of the projector's hidden layers.
    dim: width of what projector and predictor give.
    width: of the predictor's hidden layer, a bottleneck.
    """

    def __init__(self, encoder, *, hidden: Count = 2048, dim: Count = 2048, width: Count = 512):
        super().__init__(encoder)
        self.views = {"views": 2 * [views.moco_v2()]}
        self.projector = mlp(encoder.dim, hidden, hidden, dim, last_norm=True)
        self.predictor = mlp(dim, width, dim)

    def loss(self, batch, t):
        z = [self.projector(self.encoder(x)) for x in batch["views"]]  # 2 x [B, D]
        said = [self.predictor(v) for v in z]
        return {"loss": across(cosine_distance, said, [v.detach() for v in z]) / 2 - 1}  # minus the cosine
