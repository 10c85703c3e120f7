"""Where in an image does a piece of it come from? One cross-attention answers. arXiv:2303.12670"""

from torch import Tensor, nn
from torch.nn import functional as F

from tapetum.base.torchvision_compat import timm
from tapetum.parts.predictors import heads, sincos


class Correlation(nn.Module):
    """A block whose queries are the places of a context, with its piece as keys and values.

    Args:
        dim: channels of the maps.
        grid: places a side of a context's map.
        width: own width, a multiple of 32.
    """

    place: Tensor

    def __init__(self, dim: int, grid: int, width: int):
        super().__init__()
        self.enter = nn.Linear(dim, width)
        self.register_buffer("place", sincos(grid, width), persistent=False)  # [G * G, width]
        self.before, self.piece = nn.LayerNorm(width), nn.LayerNorm(width)
        self.cross = nn.MultiheadAttention(width, heads(width), batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(width), timm.layers.Mlp(width, 4 * width))
        last = nn.Linear(width, 1)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(last.bias, -0.7)  # a third: about what a piece covers of a context
        self.leave = nn.Sequential(nn.LayerNorm(width), last)

    def forward(self, context: Tensor, piece: Tensor, side: int) -> Tensor:
        """Maps of a context [B, C, G, G] and of a piece [B, C, H, W] -> logits [B, side, side] of each of the
        context's pixels being in the piece."""
        b, _, grid, _ = context.shape
        x = self.enter(context.flatten(2).mT) + self.place  # [B, G * G, width]
        seen = self.piece(self.enter(piece.flatten(2).mT))
        x = x + self.cross(self.before(x), seen, seen, need_weights=False)[0]
        x = self.leave(x + self.mlp(x)).mT.view(b, 1, grid, grid)
        return F.interpolate(x, (side, side), mode="bilinear", align_corners=False)[:, 0]
