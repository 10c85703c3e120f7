"""Views correlate feature by feature, and one feature with no other. arXiv:2103.03230"""

from tapetum import views
from tapetum.base.settings import Amount, Count
from tapetum.methods.method import Method
from tapetum.parts.decorrelation import barlow_twins
from tapetum.parts.heads import mlp


class BarlowTwins(Method):
    """Args:
    hidden: width of the projector's two hidden layers.
    dim: width of what the projector gives.
    redundancy: weight of the correlations between different features.
    """

    def __init__(self, encoder, *, hidden: Count = 8192, dim: Count = 8192, redundancy: Amount = 0.005):
        super().__init__(encoder)
        self.views = {"views": views.byol_pair()}
        self.projector = mlp(encoder.dim, hidden, hidden, dim)
        self.redundancy = redundancy

    def loss(self, batch, t):
        z = [self.projector(self.encoder(x)) for x in batch["views"]]  # 2 x [B, D]
        return {"loss": barlow_twins(*z, self.redundancy)}
