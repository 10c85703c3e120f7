"""From a ConvNet's maps at several resolutions, of which some places are empty, back to pixels."""

import itertools

import torch
from torch import Tensor, nn

from tapetum.base.errors import TapetumError
from tapetum.encoders.chunks import Chunked, by_chunks
from tapetum.parts.sparse import enlarged


class Up(nn.Sequential):
    """Twice the resolution, another width."""

    def __init__(self, width: int, out: int):
        super().__init__(
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU6(),
            nn.Conv2d(width, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )


class UNetDecoder(Chunked):
    """SparK's decoder (arXiv:2301.03580): at each resolution the map's empty places are filled with a learnt
    vector, and the map is added to what comes from below, which is then doubled, until there are pixels.

    Args:
        shapes: the maps' shapes [C, H, W], coarsest first; one as large as the image is left out.
        side: of the image in pixels.
        width: at the coarsest resolution; it halves with every doubling, down to 8.
        out: channels of the image.

    Raises TapetumError where doubling does not lead from the coarsest map to the image.
    """

    def __init__(self, shapes: list[torch.Size], side: int, width: int, out: int):
        super().__init__()
        self.sides = [shapes[0][1]]
        while self.sides[-1] < side:
            self.sides.append(2 * self.sides[-1])
        if self.sides.pop() != side:
            raise TapetumError(
                f"doubling maps of {shapes[0][1]} places a side does not lead to images of {side} pixels; "
                "take an encoder whose stride is a power of two."
            )
        widths = [max(width >> i, 8) for i in range(len(self.sides) + 1)]
        here = [(str(s), c, w) for s, w in zip(self.sides, widths) for c, height, _ in shapes if height == s]
        self.blank = nn.ParameterDict({s: 0.02 * torch.randn(c) for s, c, _ in here})
        self.enter = nn.ModuleDict({s: nn.Conv2d(c, w, 1) for s, c, w in here})
        self.up = nn.ModuleList(Up(a, b) for a, b in itertools.pairwise(widths))
        self.leave = nn.Conv2d(widths[-1], out, 1)

    def forward(self, maps: list[Tensor], shown: Tensor) -> Tensor:
        """maps [B, C, H, W] of any order, shown [B, 1, G, G] bool -> pixels [B, out, S, S]."""
        return by_chunks(self, self._painted, shown, maps)

    def _painted(self, shown: Tensor, maps: list[Tensor]) -> Tensor:
        by_side = {str(y.shape[-1]): y for y in maps}
        x: Tensor | float = 0.0
        for side, up in zip(map(str, self.sides), self.up):
            if side in self.enter:
                y, blank = by_side[side], self.blank[side][:, None, None]
                x = x + self.enter[side](torch.where(enlarged(shown, int(side)), y, blank.to(y.dtype)))
            x = up(x)
        return self.leave(x)
