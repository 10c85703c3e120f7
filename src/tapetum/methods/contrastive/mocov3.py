"""Predict which of the batch's slow-copy vectors is the other view of one's own image. arXiv:2104.02057"""

from tapetum import views
from tapetum.base.settings import Count, Positive
from tapetum.methods.method import Method
from tapetum.parts.heads import mlp
from tapetum.parts.losses import across
from tapetum.parts.negatives import in_batch
from tapetum.parts.schedule import Ramp, ShareRamp
from tapetum.parts.state import EMA


class MoCoV3(Method):
    """As the authors have it, for ResNets the projector has two layers and the predictor no last norm.

    Args:
    hidden: width of the hidden layers of projector and predictor.
    dim: width of what they give.
    temperature: divides the cosine similarities; the authors' code has 1 for ResNets.
    momentum: how much of itself the slow copy keeps at each step.
    frozen_patches: leave a ViT's patch embedding as it is at first, which keeps training stable.
    """

    def __init__(
        self,
        encoder,
        *,
        hidden: Count = 4096,
        dim: Count = 256,
        temperature: Positive = 0.2,
        momentum: ShareRamp = Ramp(0.99, 1.0),
        frozen_patches: bool = True,
    ):
        super().__init__(encoder)
        self.views = {"views": views.moco_v3(0.08 if encoder.patch else 0.2)}
        widths = [hidden, hidden] if encoder.patch else [hidden]
        self.projector = mlp(encoder.dim, *widths, dim, last_norm=True)
        self.predictor = mlp(dim, hidden, dim, last_norm=bool(encoder.patch))
        self.teacher = EMA(encoder, self.projector)
        self.temperature, self.momentum = temperature, momentum
        if encoder.patch and frozen_patches:
            encoder.net.patch_embed.requires_grad_(False)

    def loss(self, batch, t):
        q = [self.predictor(self.projector(self.encoder(x))) for x in batch["views"]]  # 2 x [B, D]
        k = [self.teacher(x) for x in batch["views"]]
        contrast = across(lambda q, k: in_batch(q, k, self.temperature), q, k)
        return {"loss": 2 * (2 * self.temperature * contrast)}  # the paper's sum of both directions

    def after_step(self, t, keep):
        self.teacher.follow(self.momentum(t), self.encoder, self.projector)
