"""data2vec with many masks for each look of the teacher; only what is shown is encoded. arXiv:2212.07525"""

import math

from tapetum import views
from tapetum.base.settings import Amount, Count, Share
from tapetum.methods.method import Method
from tapetum.parts.blocks import inverse_blocks
from tapetum.parts.gridnet import GridNet
from tapetum.parts.losses import squared_error
from tapetum.parts.masks import take
from tapetum.parts.schedule import Ramp, ShareRamp
from tapetum.parts.state import EMA
from tapetum.parts.targets import feedforward_outputs, normed

NOISE = 0.01  # the spread of what stands at hidden patches, evenly distributed (normally in the paper)


class Data2Vec2(Method):
    """Args:
    masks: how many of each image, for one pass of the teacher.
    hidden: share of the patches that each mask hides.
    block: side in patches of the squares that are shown.
    layers: how many of the teacher's last blocks are averaged.
    width: width of the decoder.
    depth: number of the decoder's layers.
    image_weight: of the error of the image's vector, whose target is the mean over its patches' targets.
    momentum: how much of itself the teacher keeps at each step.
    """

    needs = "tokens"

    def __init__(
        self,
        encoder,
        *,
        masks: Count = 16,
        hidden: Share = 0.8,
        block: Count = 3,
        layers: Count = 10,
        width: Count = 768,
        depth: Count = 6,
        image_weight: Amount = 0.01,
        momentum: ShareRamp = Ramp(0.9998, 0.99999, until=0.27, shape="linear"),
    ):
        super().__init__(encoder)
        self.views = {"x": views.mae()}
        self.decoder = GridNet(encoder.dim, width, depth, encoder.dim, groups=16)
        self.teacher = EMA(encoder)
        self.masks, self.hidden, self.block, self.layers = masks, hidden, block, layers
        self.image_weight, self.momentum = image_weight, momentum

    def loss(self, batch, t):
        x, size = batch["x"], self.encoder.grid
        outputs = feedforward_outputs(self.teacher.chain[0], x, self.layers)  # [L, B, N, D]
        target = normed(normed(outputs.mT).mT.mean(0))  # each layer over the patches, their mean over D
        x, target = (tensor.repeat_interleave(self.masks, 0) for tensor in (x, target))
        keep, hide = inverse_blocks(batch, size, self.hidden, side=self.block, masks=self.masks)
        seen = self.encoder.features(x, keep=keep)
        noise = 2 * math.sqrt(3) * NOISE * (batch.random("noise", target.shape[1:], per="batch") - 0.5)
        grid = noise.to(seen.tokens).expand_as(target)  # [B * masks, N, D]
        grid = grid.scatter(1, keep[..., None].expand_as(seen.tokens), seen.tokens)
        patches = squared_error(take(self.decoder(grid), hide), take(target, hide))
        images = squared_error(seen.vector, target.mean(1))
        return {"loss": patches + self.image_weight * images, "patch_loss": patches, "image_loss": images}

    def after_step(self, t, keep):
        self.teacher.follow(self.momentum(t), self.encoder)

    def product(self):
        return self.teacher.chain[0]
