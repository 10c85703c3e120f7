"""Predict the embedding of the next patch from those before it. arXiv:2512.16922"""

import torch

from tapetum import views
from tapetum.methods.method import Method
from tapetum.parts.losses import cosine_distance


class NEPA(Method):
    """The backbone predicts by itself, without head, decoder or teacher; a class token predicts the first
    patch. The loss is 2 - 2 cos, twice the paper's and 2 more. The paper's ViT has rotary positions,
    LayerScale, query-key norm and SwiGLU (timm has such), and it exports a moving average."""

    needs = "tokens"

    def __init__(self, encoder):
        super().__init__(encoder)
        encoder.pool_patches()
        self.views = {"x": views.mae()}

    def loss(self, batch, t):
        features = self.encoder.features(batch["x"], causal=True)
        n = features.tokens.shape[1]
        said = torch.cat([features.prefix, features.tokens], 1)[:, :-1][:, -n:]  # [B, N or N - 1, D]
        following = features.embedded[:, -said.shape[1] :].detach()
        return {"loss": cosine_distance(said, following)}
