"""The heads that methods put on an encoder."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mlp(
    *widths: int,
    norm: Callable[[int], nn.Module] | None = nn.BatchNorm1d,
    act: Callable[[], nn.Module] = nn.ReLU,
    last_norm: bool = False,
) -> nn.Sequential:
    """Linear layers of these widths, with norm and activation between them.

    A layer followed by a norm has no bias, which the norm would take away. After the last layer comes
    nothing, or with `last_norm` a norm without learnt scale (as in SimCLR's code).
    """
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(a, b, bias=norm is None), *([norm(b)] if norm else []), act()]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not last_norm))
    return nn.Sequential(*layers, *([nn.BatchNorm1d(widths[-1], affine=False)] if last_norm else []))


class Prototypes(nn.Module):
    """Cosine similarity [..., K] of vectors [..., D] with K learnt directions."""

    def __init__(self, dim: int, count: int):
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(count, dim), dim=1))

    def forward(self, z: Tensor) -> Tensor:
        return F.linear(F.normalize(z, dim=-1), F.normalize(self.weight, dim=-1))
