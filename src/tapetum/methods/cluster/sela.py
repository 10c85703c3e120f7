"""Learn labels, and label all images as the network would if each label had its share. arXiv:1911.05371"""

import torch
from torch import nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base.errors import TapetumError
from tapetum.base.settings import Count, Positive
from tapetum.methods.method import Method
from tapetum.parts.assign import equal_partition


class SeLa(Method):
    """Args:
    images: number of training images, from the data.
    prototypes: number of labels.
    heads: how many labellings there are, each with its own classifier.
    sharpness: lambda of the paper: how closely labels follow the network rather than chance.
    relabel: how many times the images are labelled anew, evenly over training, at beginnings of epochs.
    """

    def __init__(
        self,
        encoder,
        *,
        images: Count,
        prototypes: Count = 3000,
        heads: Count = 10,
        sharpness: Positive = 25.0,
        relabel: Count = 80,
    ):
        super().__init__(encoder)
        if prototypes > images:
            raise TapetumError(f"method.prototypes is {prototypes}; {images} images make at most as many.")
        look = views.Crop() + views.Flip() + views.Jitter(0.4, 0.4, 0.4, 0.4, p=1.0) + views.Gray()
        self.views = {"x": look}
        self.classifiers = nn.ModuleList(nn.Linear(encoder.dim, prototypes) for _ in range(heads))
        self.register_buffer("labels", torch.arange(images).remainder(prototypes).repeat(heads, 1))
        self.register_buffer("relabelled", torch.zeros((), dtype=torch.long))
        self.sharpness, self.relabel = sharpness, relabel

    @torch.no_grad()
    def before_epoch(self, t, over):
        if t * self.relabel < self.relabelled:
            return
        features = over(self.encoder)  # [N, D]
        for labels, classifier in zip(self.labels, self.classifiers):
            logp = classifier(features).log_softmax(1)
            labels.copy_(equal_partition(logp, self.sharpness).argmax(1))
        self.relabelled.fill_(int(t * self.relabel) + 1)  # last: a call that fails comes again

    def loss(self, batch, t):
        z, labels = self.encoder(batch["x"]), self.labels[:, batch["index"]]  # [B, D], [heads, B]
        losses = [F.cross_entropy(head(z), label) for head, label in zip(self.classifiers, labels)]
        return {"loss": torch.stack(losses).mean()}
