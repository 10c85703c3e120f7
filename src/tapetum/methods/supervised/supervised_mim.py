"""Learn labels, and beside them to paint hidden patches with a shallow decoder. arXiv:2312.00950"""

from torch import nn

from tapetum import views
from tapetum.base.settings import Amount, Count, Share
from tapetum.methods.method import Method
from tapetum.methods.supervised.supervised import mixed_cross_entropy
from tapetum.parts.losses import squared_error
from tapetum.parts.masks import split, take
from tapetum.parts.predictors import TokenPredictor, patchify
from tapetum.parts.targets import normed


class SupervisedMIM(Method):
    """What is painted are normalised pixels, as MAE's; the paper paints the tokens of a ready-made tokeniser.

    Args:
        classes: number of classes, from the data.
        image_size: side of the images in pixels, from the run; up to 64 they are shifted, not cropped.
        smoothing: share of the target that is spread over all classes.
        painting: weight of the painting.
        hidden: share of the patches that are hidden.
        width: width of the decoder.
        depth: number of the decoder's blocks.
    """

    needs = "tokens"

    def __init__(
        self,
        encoder,
        *,
        classes: Count,
        image_size: int,
        smoothing: Share = 0.1,
        painting: Amount = 1.0,
        hidden: Share = 0.75,
        width: Count = 512,
        depth: Count = 2,
    ):
        super().__init__(encoder)
        self.views = {"x": views.shifted() if image_size <= 64 else views.light()}
        self.classifier = nn.Linear(encoder.dim, classes)
        out = encoder.spec.form.channels * encoder.patch**2
        self.decoder = TokenPredictor(encoder.dim, encoder.grid, width, depth, out=out)
        self.smoothing, self.painting, self.hidden = smoothing, painting, hidden

    def predict(self, x):
        return self.classifier(self.encoder(x))  # [B, K]

    def loss(self, batch, t):
        x, label = batch["x"], batch["label"]
        named = mixed_cross_entropy(self.predict(x), label, label, x.new_ones(len(x)), self.smoothing)
        keep, hide = split(batch.random("mask", (self.encoder.grid**2,)), self.hidden)
        painted = self.decoder(self.encoder.tokens(x, keep=keep), keep, hide)  # [B, M, C*p*p]
        target = take(patchify(x, self.encoder.patch), hide)
        missed = squared_error(painted, normed(target, eps=1e-6))
        return {"loss": named + self.painting * missed, "naming": named, "painting": missed}
