"""Say from the grey image which colours it had, rare ones counting more. arXiv:1603.08511"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Positive, Share
from tapetum.methods.method import Method
from tapetum.parts.lab import colours, lab, rarity, soft_colours, weighted_cross_entropy


class Colourisation(Method):
    """Guesses at each position of the encoder's map. How common colours are is counted while training.

    Args:
    spacing: side of a bin of colours in units of Lab; 10 gives 260 within sRGB (the paper has 313).
    neighbours: among how many bins a colour is shared.
    spread: of the Gaussian that shares it, in units of Lab.
    uniform: share of the weights that every colour has alike; 1 weighs all the same.
    momentum: how much of itself the count of colours keeps at each step.
    """

    needs = "maps"
    middles: Tensor
    frequency: Tensor

    def __init__(
        self,
        encoder,
        *,
        spacing: Positive = 10.0,
        neighbours: Count = 5,
        spread: Positive = 5.0,
        uniform: Share = 0.5,
        momentum: Share = 0.99,
    ):
        super().__init__(encoder)
        if (channels := encoder.spec.form.channels) != 3:
            raise TapetumError(f"colourisation needs images of 3 channels; this encoder takes {channels}.")
        self.views = {"x": views.light()}
        self.register_buffer("middles", colours(spacing), persistent=False)  # [Q, 2]
        self.register_buffer("frequency", torch.full((len(self.middles),), 1 / len(self.middles)))
        self.head = nn.Conv2d(encoder.dim, len(self.middles), 1)
        self.neighbours, self.spread = neighbours, spread
        self.uniform, self.momentum = uniform, momentum

    def loss(self, batch, t):
        lightness, ab = lab(batch["x"]).split([1, 2], 1)
        logits = self.head(self.encoder.maps((lightness / 100).expand(-1, 3, -1, -1)))  # [B, Q, H, W]
        ab = F.adaptive_avg_pool2d(ab, logits.shape[-2:]).movedim(1, -1).flatten(0, 2)  # [N, 2], N = B H W
        target = soft_colours(ab, self.middles, self.neighbours, self.spread).to(self.frequency)  # [N, Q]
        weight = rarity(self.frequency, self.uniform)[target.argmax(1)]
        return {
            "loss": weighted_cross_entropy(logits.movedim(1, -1).flatten(0, 2), target, weight),
            "keep": {"frequency": target.mean(0, keepdim=True)},
        }

    def after_step(self, t, keep):
        self.frequency.lerp_(keep["frequency"].mean(0), 1 - self.momentum)
