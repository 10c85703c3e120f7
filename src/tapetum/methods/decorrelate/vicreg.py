"""Views attract, every feature keeps its variance, and features do not covary. arXiv:2105.04906"""

from tapetum import views
from tapetum.base.settings import Amount, Count
from tapetum.methods.method import Method
from tapetum.parts.decorrelation import vicreg
from tapetum.parts.heads import mlp


class VICReg(Method):
    """Args:
    hidden: width of the projector's two hidden layers.
    dim: width of what the projector gives.
    invariance: weight of the mean squared difference of the views.
    variance: weight of what each view's deviations lack to 1; 12.5 is 25 of the authors' code, which halves.
    covariance: weight of each view's squared covariances.
    """

    def __init__(
        self,
        encoder,
        *,
        hidden: Count = 8192,
        dim: Count = 8192,
        invariance: Amount = 25.0,
        variance: Amount = 25.0,
        covariance: Amount = 1.0,
    ):
        super().__init__(encoder)
        self.views = {"views": 2 * [views.byol(blur=0.5, solarise=0.1)]}
        self.projector = mlp(encoder.dim, hidden, hidden, dim)
        self.weights = invariance, variance, covariance

    def loss(self, batch, t):
        z = [self.projector(self.encoder(x)) for x in batch["views"]]  # 2 x [B, D]
        return {"loss": vicreg(*z, self.weights)}
