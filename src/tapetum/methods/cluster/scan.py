"""Name the cluster that a neighbour names, using all clusters; then learn from the sure. arXiv:2005.12320"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tapetum import views
from tapetum.base.distributed import mean
from tapetum.base.settings import Amount, Count, Share
from tapetum.measure.knn import neighbours as nearest
from tapetum.methods.method import Method
from tapetum.parts.losses import precise


class SCAN(Method):
    """Begin it from features that are good already: `--weights RUN`.

    Neighbours speak through a bank of what their views were named last; in the paper one of them is in the
    batch. A batch of which no image is sure goes on as before instead of learning nothing.

    Args:
        images: number of training images, from the data.
        clusters: number of clusters, which should be that of the classes one expects.
        neighbours: how many nearest neighbours each image has, found once by the features at the beginning.
        entropy: weight of the demand that all clusters are used (lambda in the paper).
        labelling: share of training from which sure images label themselves.
        confidence: probability of a weak view's cluster from which it labels the strong view.
    """

    def __init__(
        self,
        encoder,
        *,
        images: Count,
        clusters: Count = 10,
        neighbours: Count = 20,
        entropy: Amount = 5.0,
        labelling: Share = 1 / 3,
        confidence: Share = 0.99,
    ):
        super().__init__(encoder)
        strong = views.RandAugment(4, (0.0, 30.0), "fixmatch") + views.Cutout(cover="mean")
        self.views = {"weak": views.weak(), "strong": views.weak() + strong}
        self.classifier = nn.Linear(encoder.dim, clusters)
        near = min(neighbours, images - 1)
        self.register_buffer("neighbours", torch.zeros(images, near, dtype=torch.long))
        self.register_buffer("bank", torch.full((images, clusters), 1 / clusters))
        self.entropy, self.labelling, self.confidence = entropy, labelling, confidence

    def named(self, x):
        """Scores [B, K] of the clusters."""
        return self.classifier(self.encoder(x))

    @torch.no_grad()
    def before_epoch(self, t, over):
        if t == 0:
            features = over(self.encoder)
            self.neighbours.copy_(nearest(features, self.neighbours.shape[1]))
            self.bank.copy_(self.classifier(features).softmax(1))

    def loss(self, batch, t):
        scores, index = self.named(batch["strong"]), batch["index"]  # [B, K]
        near = self.bank[self.neighbours[index]]  # [B, k, K]
        uneven = imbalance(scores)
        out = {"loss": self.entropy * uneven - agreement(scores, near), "imbalance": uneven, "sure": 0.0}
        if t >= self.labelling:
            with torch.no_grad():
                surest, label = self.named(batch["weak"]).float().softmax(1).max(1)
            sure = surest > self.confidence
            out["sure"] = mean(sure.float().mean())
            labelled = balanced_cross_entropy(scores, label, sure)
            out["loss"] = torch.where(out["sure"] > 0, labelled, out["loss"])
        return {**out, "keep": {"index": index, "said": scores.softmax(1)}}

    def after_step(self, t, keep):
        self.bank[keep["index"]] = keep["said"].to(self.bank)


@precise
def agreement(scores: Tensor, near: Tensor) -> Tensor:
    """The mean log-probability that scores [B, K] and each of near [B, k, K] name one cluster."""
    return (scores.log_softmax(1)[:, None] + near.log()).logsumexp(2).mean()


@precise
def imbalance(scores: Tensor) -> Tensor:
    """How far the mean guess of scores [B, K], over all processes, is from even: ln K minus its entropy."""
    p = mean(scores.softmax(1).mean(0))
    return math.log(len(p)) + torch.xlogy(p, p).sum()


@precise
def balanced_cross_entropy(scores: Tensor, label: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of scores [B, K] with label [B] where `known` [B]: the mean over the labels there are, on
    all processes, of each one's mean."""
    count = mean(F.one_hot(label, scores.shape[1]).to(scores)[known].sum(0))  # [K]
    error = F.cross_entropy(scores, label, reduction="none") / count[label].clamp(min=1e-8)
    return (error * known).sum() / (count > 0).sum().clamp(min=1)
