"""Every image is a class of its own: say which one it is. arXiv:2302.10260"""

from torch import nn

from tapetum import views
from tapetum.base.settings import Count, Share
from tapetum.methods.method import Method
from tapetum.parts.classify import classified


class DIET(Method):
    """Args:
    images: number of images, from the data; the classifier has a row for each.
    smoothing: share of the target that is spread over all images; large, since each is seen so seldom.
    """

    def __init__(self, encoder, *, images: Count, smoothing: Share = 0.8):
        super().__init__(encoder)
        self.views = {"x": views.byol(blur=0.5, solarise=0.0)}
        self.classifier = nn.Linear(encoder.dim, images, bias=False)
        self.smoothing = smoothing

    def loss(self, batch, t):
        return classified(self.classifier(self.encoder(batch["x"])), batch["index"], self.smoothing)
