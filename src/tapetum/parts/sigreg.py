"""Embeddings towards an isotropic Gaussian: a test of normality along random directions. arXiv:2511.08544"""

import torch
from torch import Tensor
from torch.nn import functional as F

from tapetum.base.distributed import mean, world
from tapetum.parts.losses import precise


@precise
def sigreg(z: Tensor, directions: Tensor, *, reach: float = 5.0, points: int = 17) -> Tensor:
    """The mean over directions and views of Epps and Pulley's statistic, over all processes.

    Along a unit vector a standard normal z has the characteristic function exp(-t^2 / 2). The statistic is N
    times the squared distance of the empirical one from it, weighted by exp(-t^2 / 2) and integrated over t
    by trapezia.

    Args:
        z: [V, B, D], each view's embeddings by themselves.
        directions: [D, M], of any length.
        reach: the integral goes from -reach to reach.
        points: an odd number of them. The integrand is even in t, so half of them are computed.
    """
    t = torch.linspace(0, reach, points // 2 + 1, dtype=z.dtype, device=z.device)
    angle = (z @ F.normalize(directions, dim=0))[..., None] * t  # [V, B, M, T]
    real, imaginary = mean(torch.stack([angle.cos().mean(1), angle.sin().mean(1)]))  # [V, M, T]
    gauss = (-t.square() / 2).exp()
    error = ((real - gauss).square() + imaginary.square()) * gauss
    return 2 * torch.trapezoid(error, t).mean() * z.shape[1] * world()
