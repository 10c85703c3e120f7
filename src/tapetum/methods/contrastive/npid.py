"""Every image is a class of its own, whose prototype is its vector of the last epoch. arXiv:1805.01978"""

import torch
from torch import nn

from tapetum import views
from tapetum.base.settings import Amount, Count, Positive, Share, Whole
from tapetum.methods.method import Method
from tapetum.parts.negatives import among_all, noise_contrast, unit


class NPID(Method):
    """Args:
    images: number of training images, from the data.
    dim: width of the vectors.
    temperature: divides the cosine similarities.
    noise: number of vectors of the memory that an image is told from; 0 tells it from all (softmax).
    proximal: weight, beside noise, of the squared distance to the image's own last vector.
    momentum: how much of itself a remembered vector keeps; the authors' code has 0.5 and no proximal term.
    """

    def __init__(
        self,
        encoder,
        *,
        images: Count,
        dim: Count = 128,
        temperature: Positive = 0.07,
        noise: Whole = 4096,
        proximal: Amount = 10.0,
        momentum: Share = 0.0,
    ):
        super().__init__(encoder)
        self.views = {"x": views.moco_v1()}
        self.projector = nn.Linear(encoder.dim, dim)
        self.register_buffer("bank", unit(torch.randn(images, dim)))
        self.temperature, self.noise, self.proximal, self.momentum = temperature, noise, proximal, momentum

    def loss(self, batch, t):
        v, index = unit(self.projector(self.encoder(batch["x"]))), batch["index"]
        own = self.bank[index]  # [B, D]
        moved = (v - own).square().sum(1).mean()
        if self.noise:
            drawn = (batch.random("noise", (self.noise,), per="batch") * len(self.bank)).long()
            loss = noise_contrast(v, own, self.bank[drawn], self.temperature) + self.proximal * moved
        else:
            loss = among_all(v, index, self.bank, self.temperature)
        return {"loss": loss, "moved": moved, "keep": {"index": index, "vectors": v}}

    def after_step(self, t, keep):
        old = self.bank[keep["index"]]
        self.bank[keep["index"]] = unit(torch.lerp(keep["vectors"].to(old), old, self.momentum))
