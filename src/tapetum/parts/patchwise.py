"""A deep network that every token goes through by itself."""

from torch import Tensor, nn

from tapetum.base.torchvision_compat import timm


class Residual(nn.Module):
    """A transformer's block without its attention."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(width), timm.layers.Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


def patchwise(dim: int, width: int, depth: int, out: int) -> nn.Sequential:
    """Tokens [B, N, dim] -> [B, N, out] through `depth` blocks of this width (arXiv:2401.08541)."""
    blocks = [Residual(width) for _ in range(depth)]
    return nn.Sequential(nn.Linear(dim, width), *blocks, nn.LayerNorm(width), nn.Linear(width, out))
