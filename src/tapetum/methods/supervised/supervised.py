"""Learn labels, smoothed and mixed (mixup, CutMix). arXiv:1512.00567, arXiv:1710.09412, arXiv:1905.04899"""

from torch import Tensor, nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base.distributed import mean
from tapetum.base.settings import Count, Share
from tapetum.methods.method import Method
from tapetum.parts.losses import precise
from tapetum.parts.mixing import beta, cutmix, mixup, partner


class Supervised(Method):
    """Args:
    classes: number of classes, from the data.
    image_size: side of the images in pixels, from the run; up to 64 they are shifted rather than cropped.
    smoothing: share of the target that is spread over all classes.
    mixup: alpha of mixup's Beta distribution, up to 1; 0 turns it off.
    cutmix: the same of CutMix's. With both, each batch takes one of them.
    """

    def __init__(
        self,
        encoder,
        *,
        classes: Count,
        image_size: int,
        smoothing: Share = 0.1,
        mixup: Share = 0.0,
        cutmix: Share = 0.0,
    ):
        super().__init__(encoder)
        self.views = {"x": views.shifted() if image_size <= 64 else views.light()}
        self.classifier = nn.Linear(encoder.dim, classes)
        self.smoothing, self.mixup, self.cutmix = smoothing, mixup, cutmix

    def predict(self, x):
        return self.classifier(self.encoder(x))  # [B, K]

    def loss(self, batch, t):
        x, share = self.mix(batch)
        logits = self.predict(x)
        labels = batch["label"], partner(batch["label"])
        right = logits.argmax(1) == labels[0]  # falls with mixing
        return {
            "loss": mixed_cross_entropy(logits, *labels, share, self.smoothing),
            "accuracy": right.float().sum() / (labels[0] >= 0).sum().clamp(min=1),
        }

    def mix(self, batch):
        """The images [B, C, H, W] and the share [B] of each in its mixture."""
        x, cut = batch["x"], self.cutmix > 0
        if self.mixup and self.cutmix:
            cut = batch.random("cut", per="batch") < 0.5
        if not (alpha := self.cutmix if cut else self.mixup):
            return x, x.new_ones(len(x))
        share = beta(batch.random("share", (24,)), alpha).to(x)
        if cut:
            return cutmix(x, share, batch.random("box", (2,)))
        return mixup(x, share), share


@precise
def mixed_cross_entropy(
    logits: Tensor, label: Tensor, other: Tensor, share: Tensor, smoothing: float
) -> Tensor:
    """Cross-entropy of logits [B, K] with label [B] at weight share [B] and with `other` at the rest.

    Unknown labels (-1) count for nothing; the mean is over what is known of the batch, on all processes.
    """
    total = logits.new_zeros(())
    known = logits.new_zeros(())
    for target, weight in ((label, share), (other, 1 - share)):
        error = F.cross_entropy(logits, target, ignore_index=-1, reduction="none", label_smoothing=smoothing)
        total = total + (error * weight).sum()
        known = known + (weight * (target >= 0)).sum()
    return total / mean(known).clamp(min=1e-8)
