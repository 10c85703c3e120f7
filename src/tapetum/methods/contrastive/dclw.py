"""DCL whose pairs attract the more, the further apart they are. arXiv:2110.06848"""

from tapetum.base.settings import Count, Positive
from tapetum.methods.contrastive.dcl import DCL
from tapetum.parts.negatives import von_mises_fisher


class DCLW(DCL):
    """Args:
    hidden: width of the projector's hidden layer.
    dim: width of what the projector gives.
    temperature: divides the cosine similarities.
    sigma: the smaller, the more a pair's distance counts.
    """

    def __init__(
        self,
        encoder,
        *,
        hidden: Count = 2048,
        dim: Count = 128,
        temperature: Positive = 0.1,
        sigma: Positive = 0.5,
    ):
        super().__init__(encoder, hidden=hidden, dim=dim, temperature=temperature)
        self.sigma = sigma

    def weight(self, a, b):
        return von_mises_fisher(a, b, self.sigma)
